package main

var publishingArea = area{
	name:     "publishing",
	folder:   ".",
	packages: []string{"internal/reliability", "."},
	mutants: []mutant{
		// What an answer means.
		one("Notify says nil when it does not know", "send.go", "\t\toutcome = fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n", "\t\toutcome = nil\n", "TestSoak TestPublisherNamesOutcomes"),
		one("Notify says not sent when it does not know", "send.go", "\t\toutcome = fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n", "\t\toutcome = fmt.Errorf(\"%w: %w\", ErrNotConnected, err)\n", "TestPublisherNamesOutcomes TestSoak"),
		one("Notify in the encoding of the database", "pool.go", `return encoding == "UTF8" || encoding == ""`, `return encoding != "nothing of the kind"`, "TestFaultEncodingLatin1"),
		sampled(one("a refusal taken for the unknown", "send.go", "refused := sent && errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == \"ERROR\"", "refused := sent && errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == \"FATAL\"", "TestPublisherNamesOutcomes")),
		one("no connection taken for the unknown", "send.go", "case !sent, pgconn.SafeToRetry(err):", "case pgconn.SafeToRetry(err):", "TestPublisherNamesWhyNothingIsSent"),
		one("what is safe taken for the unknown", "send.go", "case !sent, pgconn.SafeToRetry(err):", "case !sent:", "TestPublisherNamesOutcomes"),
		one("failures counted once a batch", "send.go", "\tp.failures.Add(uint64(len(calls)))\n", "\tp.failures.Add(1)\n", "TestPublisherNamesOutcomes"),
		one("events counted once a batch", "send.go", "\t\tp.events.Add(uint64(len(calls)))\n", "\t\tp.events.Add(1)\n", "TestPublisherGathers"),
		one("the guilty take all others along", "send.go", "if len(calls) == 1 || !refusesOne(err) {", "if true {", "TestPublisherIsolatesTheGuilty"),
		one("the second half is left out", "send.go", "\treturn p.sendAll(ctx, conn, calls[half:])\n", "\treturn nil\n", "TestPublisherIsolatesTheGuilty"),
		one("the rest is sent to a server that is silent", "send.go", "\tif err := p.sendAll(ctx, conn, calls[:half]); err != nil {", "\tif err := p.sendAll(ctx, conn, calls[:half]); false {", "TestPublisherGivesUpTheRest"),
		one("any error is about one event", "send.go", "len(pgErr.Code) == 5 && pgErr.Code[:2] == dataException", "len(pgErr.Code) == 5", "TestPublisherNamesOutcomes"),

		// A batch.
		sampled(one("equal events folded", "batch.go", "\tif !b.distinct(c) {\n", "\tif b.distinct(c); false {\n", "TestPublisherTellsEqualEventsApart")),
		one("padded beyond the limit", "batch.go", "if len(padded.payload) > maxPayload {", "if len(padded.payload) > maxPayload+1 {", "TestPublisherPadsWithinTheLimit"),
		one("padding that meets a real payload", "batch.go", "if _, taken := b.texts[padded]; !taken {", "if true {", "TestPublisherTellsEqualEventsApart"),
		one("the first event may be repeated", "batch.go", "map[notification]int{b.calls[0].notification: 1}", "map[notification]int{}", "TestPublisherTellsEqualEventsApart"),
		one("one event too many", "batch.go", "len(b.calls) == maxBatchEvents ||", "len(b.calls) == maxBatchEvents+1 ||", "TestPublisherBatchLimits"),
		one("batches of any size", "batch.go", "|| b.size+len(c.payload) > maxBatchBytes {", "{", "TestPublisherBatchLimits"),
		one("those who have left are sent", "batch.go", "\t\tb.calls = slices.DeleteFunc(b.calls, func(c *call) bool { return c.left })\n", "", "TestPublisherLeavesBefore"),
		one("who comes last goes first", "publisher.go", "\tb := p.waiting[0]\n\tp.waiting = slices.Delete(p.waiting, 0, 1)\n", "\tb := p.waiting[len(p.waiting)-1]\n\tp.waiting = p.waiting[:len(p.waiting)-1]\n", "TestPublisherBatchLimits TestPublisherTellsEqualEventsApart"),

		// Those who leave, and ends.
		one("left during, and said not to be sent", "publisher.go", "\tif b.taken {\n", "\tif false {\n", "TestPublisherLeavesDuring"),
		one("left before a connection, and why", "publisher.go", "\tif p.acquiring {\n\t\treturn fmt.Errorf(\"%w: %w\", ErrNotConnected, c.ctx.Err())\n\t}\n", "", "TestPublisherLeavesBeforeThereIsAConnection"),
		one("statements without an end", "send.go", "p.limit.allow(p.timeout, p.noAnswer)", "p.limit.allow(1000*p.timeout, p.noAnswer)", "TestPublisherTimesOut"),
		one("a wait for a connection without an end", "send.go", "p.limit.allow(p.timeout/2, p.noConnection)", "p.limit.allow(1000*p.timeout, p.noConnection)", "TestPublisherTimesOutWithoutConnection"),
		one("dead connections kept", "send.go", "\t\tp.pool.reset() // the others are likely to be dead too\n", "", "TestPublishPastHalfOpenConnections TestPublisherTimesOut"),
		one("a panic below the pool", "send.go", "\tif v := recover(); v != nil {\n", "\tif v := any(nil); v != nil {\n", "TestPublisherSurvivesHooks"),
		one("a cut-off that ends nothing", "limit.go", "\tl.cut = true\n\tif l.cancel != nil {\n\t\tl.cancel(errCutOff)\n\t}\n", "\tl.cut = true\n", "TestPublisherCutOff"),
		one("those who came meanwhile are forgotten", "publisher.go", "\tif p.more() {\n\t\tgo p.run()\n\t}\n", "\tp.more()\n", "TestPublisherGathers"),
		one("closed, and lets people in", "publisher.go", "\tif p.closed {\n\t\tp.mu.Unlock()\n\t\treturn ErrStopped\n\t}\n", "", "TestPublisherCloses"),
		one("closed before all are answered", "publisher.go", "\tselect {\n\tcase <-p.idle:\n\tcase <-ctx.Done():\n\t}\n", "", "TestPublisherCloses"),

		// What a caller may do.
		one("published before Start", "notify.go", "\tcase life == lifeIdle:\n\t\treturn ErrNotStarted\n", "", "TestEveryMethodHasAnAnswerInEveryState"),
		one("any topic for a plain payload", "notify.go", "\tif err := checkTopic(topic); err != nil {\n\t\treturn err\n\t}\n\tif err := checkPayload(topic, []byte(payload))", "\tif err := checkPayload(topic, []byte(payload))", "TestLimitsRoundTrip"),
		one("any plain payload", "notify.go", "\tif err := checkPayload(topic, []byte(payload)); err != nil {\n\t\treturn err\n\t}\n\treturn h.publish", "\treturn h.publish", "TestLimitsRoundTrip"),
	},
}
