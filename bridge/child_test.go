package bridge_test

const childEnv = "PGHUB_BRIDGE_CHILD"

func child(string) {}
