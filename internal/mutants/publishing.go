package main

var publishingArea = area{
	name:     "publishing",
	folder:   ".",
	packages: []string{"internal/reliability", "."},
	mutants: []mutant{
		one("Notify says nil when it does not know", "publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn nil\n}\n\n// refusesOne", "TestSoak"),
		one("Notify says not sent when it does not know", "publisher.go", "\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, err)\n}\n\n// refusesOne", "\treturn fmt.Errorf(\"%w: %w\", ErrNotConnected, err)\n}\n\n// refusesOne", "TestSoak"),
		one("Notify in the encoding of the database", "send.go", `return encoding == "UTF8" || encoding == ""`, `return encoding != "nothing of the kind"`, "TestFaultEncodingLatin1"),

		// A batch.
		one("an answer for everybody but the last", "publisher.go", "for i, pub := range batch[1:] {", "for i, pub := range batch[1:len(batch)-1] {", "TestPublisherGathers"),
		one("answers to the wrong ones", "publisher.go", "pub.answer <- answer{err: outcomes[i+1]}", "pub.answer <- answer{err: outcomes[i]}", "TestPublisherIsolatesTheGuilty"),
		one("the guilty take all others along", "publisher.go", "case err != nil && len(batch) > 1 && refusesOne(err):", "case false:", "TestPublisherIsolatesTheGuilty"),
		one("a batch sent again after any error", "publisher.go", "case err != nil && len(batch) > 1 && refusesOne(err):", "case err != nil && len(batch) > 1:", "TestPublisherNamesOutcomes TestPublisherIsolatesTheGuilty"),
		sampled(one("equal events folded", "publisher.go", "\t\tif !p.distinctLocked(pub) {\n", "\t\tif false {\n", "TestPublisherTellsEqualEventsApart")),
		one("padded beyond the limit", "publisher.go", "if len(padded.payload) > maxPayload {", "if len(padded.payload) > maxPayload+1 {", "TestPublisherPadsWithinTheLimit"),
		one("padding that meets a real payload", "publisher.go", "if _, taken := p.texts[padded]; !taken {", "if true {", "TestPublisherTellsEqualEventsApart"),
		one("one event too many", "publisher.go", "len(batch) == maxBatchEvents ||", "len(batch) == maxBatchEvents+1 ||", "TestPublisherBatchLimits"),
		one("batches of any size", "publisher.go", "|| size+len(pub.payload) > maxBatchBytes {", "{", "TestPublisherBatchLimits"),
		one("the rest of a long queue lost", "publisher.go", "\t\t\tstay = append(stay, p.waiting[i:]...)\n", "\t\t\tstay = append(stay, p.waiting[i+1:]...)\n", "TestPublisherBatchLimits"),
		one("those who cannot be told apart lost", "publisher.go", "\t\t\tstay = append(stay, pub)\n\t\t\tcontinue\n", "\t\t\tcontinue\n", "TestPublisherTellsEqualEventsApart"),

		// Those who leave.
		one("a lead that goes with its caller", "publisher.go", "\t\tp.passLead()\n\t\treturn fmt.Errorf(\"not sent: %w\", ctx.Err())\n\tdefault", "\t\treturn fmt.Errorf(\"not sent: %w\", ctx.Err())\n\tdefault", "TestPublisherLeavesAsItIsToLead"),
		one("a batch that ends with one caller", "publisher.go", "\tcase len(batch) == 1: // nobody", "\tcase len(batch) >= 1: // nobody", "TestPublisherLeavesDuring"),
		one("left before, and sent all the same", "publisher.go", "\t\tp.waiting = slices.Delete(p.waiting, i, i+1)\n", "", "TestPublisherLeavesBefore"),
		one("left during, and said not to be sent", "publisher.go", "\tdefault: // it is under way with a batch, or its answer is\n\t\treturn fmt.Errorf(\"%w: %w\", ErrUnknownOutcome, ctx.Err())", "\tdefault: // it is under way with a batch, or its answer is\n\t\treturn fmt.Errorf(\"not sent: %w\", ctx.Err())", "TestPublisherLeavesDuring"),
		one("who comes last goes first", "publisher.go", "\t\tnext := p.waiting[0]\n\t\tp.waiting = slices.Delete(p.waiting, 0, 1)\n", "\t\tnext := p.waiting[len(p.waiting)-1]\n\t\tp.waiting = p.waiting[:len(p.waiting)-1]\n", "TestPublisherModel"),

		// Ends.
		one("statements without an end", "publisher.go", "\t\tp.cancel(errNoAnswer)\n", "", "TestPublisherTimesOut"),
		one("a cut-off that ends nothing", "publisher.go", "\tif p.cancel != nil {\n\t\tp.cancel(errCutOff)\n\t}\n", "", "TestPublisherCutOff"),
		one("closed, and lets people in", "publisher.go", "\tif p.closed {\n\t\tp.mu.Unlock()\n\t\treturn ErrStopped\n\t}\n", "", "TestPublisherCloses"),
		one("closed before all are answered", "publisher.go", "\t\tif !p.busy {\n\t\t\tclose(p.idle)\n\t\t}\n", "\t\tif !p.busy || true {\n\t\t\tclose(p.idle)\n\t\t\tp.idle = make(chan struct{})\n\t\t}\n", "TestPublisherCloses"),
		one("a refusal taken for the unknown", "publisher.go", "pgErr.SeverityUnlocalized == \"ERROR\":\n\t\treturn err", "pgErr.SeverityUnlocalized == \"FATAL\":\n\t\treturn err", "TestPublisherNamesOutcomes"),
		one("no connection taken for the unknown", "publisher.go", "case errors.As(err, &unsent), pgconn.SafeToRetry(err):", "case pgconn.SafeToRetry(err):", "TestPublisherNamesOutcomes"),
		one("failures counted once a batch", "publisher.go", "\tp.failures.Add(uint64(events))\n", "\tp.failures.Add(1)\n", "TestPublisherNamesOutcomes"),
		one("events counted once a batch", "publisher.go", "\t\tp.events.Add(uint64(events))\n", "\t\tp.events.Add(1)\n", "TestPublisherGathers"),

		// What a caller may do.
		one("published before Start", "notify.go", "\tcase life == lifeIdle:\n\t\treturn ErrNotStarted\n", "", "TestEveryMethodHasAnAnswerInEveryState"),
		one("published after Stop", "notify.go", "\tcase life >= lifeStopping:\n\t\treturn ErrStopped\n", "", "TestEveryMethodHasAnAnswerInEveryState"),
		one("any topic for a plain payload", "notify.go", "\tif err := checkTopic(topic); err != nil {\n\t\treturn err\n\t}\n\tif err := checkPayload(topic, []byte(payload))", "\tif err := checkPayload(topic, []byte(payload))", "TestLimitsRoundTrip"),
		one("any plain payload", "notify.go", "\tif err := checkPayload(topic, []byte(payload)); err != nil {\n\t\treturn err\n\t}\n\treturn h.publish", "\treturn h.publish", "TestLimitsRoundTrip"),
		one("a connection not given back", "send.go", "\t\tdefer conn.Release()\n", "", "TestPublishConcurrently"),
	},
}
