package main

var publishingArea = area{
	name:     "publishing",
	folder:   ".",
	packages: []string{"internal/reliability", "."},
	mutants: []mutant{
		one("Notify says nil when it does not know", "publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn nil\n}\n\n// refusesOne", "TestSoak"),
		one("Notify says not sent when it does not know", "publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn fmt.Errorf(\"%w: %w\", ErrNotConnected, err)\n}\n\n// refusesOne", "TestSoak"),
		one("Notify in the encoding of the database", "send.go", `return encoding == "UTF8" || encoding == ""`, `return encoding != "nothing of the kind"`, "TestFaultEncodingLatin1"),
	},
}
