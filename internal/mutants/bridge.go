package main

var bridgeArea = area{
	name:     "bridge",
	folder:   "bridge",
	packages: []string{"bridge", "bridge/webhook", "bridge/hub"},
	mutants: []mutant{
		// What the broker has said.
		sampled(one("a failure taken for success", "send.go", "\t\t\tresults[i] = err\n", "\t\t\tresults[i] = nil\n", "TestAFailureIsTriedAgain")),
		one("what was taken sent again", "send.go", "\t\tpending = append(failed, pending[n:]...)\n", "\t\tif len(failed) == 0 {\n\t\t\tpending = pending[n:]\n\t\t}\n", "TestOnlyWhatFailedIsSentAgain"),
		one("what was refused acknowledged in silence", "send.go", "\t\t\trefuse(o, err)\n", "", "TestWhatIsRefusedIsNamed TestAWholeBatchIsRefused"),
		one("all of a large batch tried again and again", "send.go", "\t\tmost = 1\n", "", "TestAfterAFailureBatchesGrowAgain"),
		one("what was not tried counted as a failure", "send.go", "if !errors.Is(err, ErrNotSent) {", "if true {", "TestOnlyWhatFailedIsSentAgain"),
		one("batches larger than the sink wants", "config.go", "\t\tr.Batch = min(r.Batch, limited.MaxBatch())\n", "", "TestASinkThatWantsSmallBatches"),
		one("lanes for a sink that needs order", "config.go", "orderly.NeedsOrder() && r.Lanes > 1", "orderly.NeedsOrder() && r.Lanes > 1024", "TestWrongRoutes"),

		one("a topic that none can have", "source.go", "len(topic) > maxTopic", "len(topic) > 1000", "TestWrongRoutes"),
		one("one consumer for two routes", "bridge.go", "\t\t\terr = sharedConsumer(b.routes, r)\n", "", "TestTwoRoutesWithOneConsumer"),
		one("a mistake in Edit that stops a route", "format.go", "return guarded(\"Edit\", func() error { return w.edit(ev, m) })", "return w.edit(ev, m)", "TestWhatCannotBeWrittenIsRefused"),

		// Sources.
		one("a hub that is not drained", "fromhub.go", "\terr = c.Drain(within)\n", "\terr = within.Err()\n", "TestStopDrainsAHub"),
		one("a gap that is none", "fromhub.go", "case a.Action == pghub.ActionLag:", "case false:", "TestASinkThatIsTooSlowForAHub"),
		one("an announced gap that is none", "fromhub.go", "case a == nil && ev.AnnouncesGap():", "case false:", "TestAGapThatIsAnnounced"),
		one("what is lost not counted", "route.go", "\t\tr.lose(left)\n", "", "TestWhatIsLostIsCounted"),
		one("an event out of order that does not say so", "fromstream.go", ", Again: b.Again}", "}", "TestWhatIsRefusedIsParked"),
		one("a gap that nobody counts", "route.go", "\t\tr.fig.gaps.Add(1)\n", "", "TestGaps"),
		one("a gap for a sink that wants none", "route.go", "\t\tif !r.gaps {", "\t\tif false {", "TestGaps"),
		one("one ID for all", "route.go", "r.number.Add(1)", "r.number.Load()", "TestIDsWithoutPositions"),
		one("a sink that is closed twice", "bridge.go", "\t\t\tclosed[sink] = true\n", "", "TestLife"),

		// What is sent.
		one("null is a text", "template.go", "len(value) == 0 || string(value) == \"null\"", "len(value) == 0", "TestTemplates"),
		one("text behind a template's field forgotten", "template.go", "\tif literal.Len() > 0 {\n\t\tt.parts = append(t.parts, part{literal: literal.String()})\n\t}\n\treturn t, nil", "\treturn t, nil", "TestTemplates"),
		one("an extension that is an attribute", "cloudevents.go", " || slices.Contains(reserved, name)", "", "TestWrongRoutes"),
		one("a value that is no JSON", "format.go", "\t\treturn errNoJSON\n", "", "TestWhatCannotBeWrittenIsRefused"),
		one("the event's headers changed", "format.go", "maps.Clone(ev.Record.Headers)", "ev.Record.Headers\n\t\tmaps.DeleteFunc(m.Headers, func(string, string) bool { return false })", "TestTheHeadersOfAnEventAreNotChanged"),

		// Webhooks.
		one("a signature without the body", "webhook/sign.go", "\th.Write(body)\n", "", "TestTheSignatureIsThatOfTheSpecification"),
		one("a request of any age", "webhook/sign.go", "age > tolerance || age < -tolerance", "age == 1", "TestAMessageIsASignedRequest"),
		one("a redirect that is followed", "webhook/webhook.go", "{ return http.ErrUseLastResponse }", "{ return nil }", "TestARedirectIsNotFollowed"),
		one("a target elsewhere", "webhook/webhook.go", "where.Scheme != s.base.Scheme || where.Host != s.base.Host", "where.Host == \"\"", "TestATargetStaysWithTheHost"),
		one("a message behind one that failed", "webhook/webhook.go", "results[i] != nil && !bridge.IsRefused(results[i])", "results[i] != nil && i < 0", "TestWhatAnAnswerMeans"),
		one("what is refused tried for ever", "webhook/webhook.go", "case code >= 400 && code < 500:", "case code >= 600:", "TestWhatAnAnswerMeans"),
		one("a whole batch refused for one of it", "webhook/webhook.go", "bridge.IsRefused(err) && len(batch) > 1", "bridge.IsRefused(err) && len(batch) > 1000", "TestABatchThatIsRefusedIsTriedInParts"),
		one("a token in an error", "webhook/webhook.go", "\t\terr = of.Err\n", "\t\t_ = of\n", "TestErrorsShowNoSecrets"),

		// Another PostgreSQL.
		sampled(one("what is there already published again", "hub/hub.go", "\t\t\trows = behind(rows, reached)\n", "\t\t\t_ = reached\n", "TestNothingComesTwice")),
		one("what is replayed taken for old", "hub/hub.go", "\t\tif !m.Again {", "\t\tif true {", "TestWhatComesAgainOutOfOrderIsPublished"),
		one("a position for all routes", "hub/hub.go", "WHERE name = $1 AND route = $2 FOR UPDATE", "WHERE name = $1 AND $2 <> '' FOR UPDATE", "TestPositionsAreOfASourceAndARoute"),
		one("equal notifications folded", "hub/hub.go", "!s.cfg.Stream && !s.distinct(&r, sent)", "s.cfg.Raw && !s.distinct(&r, sent)", "TestEqualNotificationsAllArrive"),
		one("a whole batch refused for what the server does not take", "hub/hub.go", "case hopeless && len(rows) == 1:", "case hopeless && len(rows) > 0:", "TestWhatTheServerRefuses"),
	},
}
