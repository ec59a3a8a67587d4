package bridge

import "time"

// DrainFor bounds how long a source takes to end.
func DrainFor(s Source, d time.Duration) { s.(*streamSource).drain = d }
