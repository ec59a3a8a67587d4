package main

// replayMutants belong to the gateway's area: what clients can have again, and what they ask for besides topics.
var replayMutants = []mutant{
	sampled(one("what comes live and was read", "track.go", "\t\tif m.at.Compare(t.at) <= 0 || !slices.Contains(t.topics, m.topic) {\n", "\t\tif !slices.Contains(t.topics, m.topic) {\n", "TestTheSeamOfAReplay")),
	one("what a client has, once more", "track.go", "\tcase at.Compare(t.at) <= 0: // it has it\n", "\tcase at.Compare(t.at) < 0 && false:\n", "TestTheSeamOfAReplay"),
	one("what is held forgotten", "track.go", "\tfor _, m := range t.held {\n", "\tfor _, m := range t.held[:0] {\n", "TestTheSeamOfAReplay"),
	one("what did not fit taken for nothing", "track.go", "\tif t.spilt {\n\t\treturn false\n\t}\n", "", "TestTheSeamOfAReplay"),
	one("a replay that keeps no place", "track.go", "\t\tt.at = at\n\t\tt.uniteLocked()\n", "\t\tt.uniteLocked()\n", "TestSlowReaderOfAStreamLosesNothing"),
	one("a replay for those who are not behind", "track.go", "\tdefault:\n\t\tt.fallBehindLocked()\n", "\tdefault:\n", "TestSlowReaderOfAStreamLosesNothing"),
	one("an expired position taken for an end", "track.go", "\tc.put(item{kind: kindAdvisory, data: missingMessage(t.topics, gone.reason)})\n", "", "TestReplayThatDoesNotReachBack TestHistory"),
	one("a foreign position read from the beginning", "source.go", "\t\t\treturn false, &missing{\"foreign\", at}\n", "\t\t\t_ = at\n\t\t\treturn false, &missing{\"foreign\", gap.Gap.Until}\n", "TestReplayThatDoesNotReachBack"),
	one("ids of another gateway taken for positions", "cursor.go", "if err != nil || at.Tick < firstTick {", "if err != nil {", "TestReplayThatDoesNotReachBack"),
	one("no place for who has had nothing", "sse.go", "\tcase now := <-s.located: // before its events\n", "\tcase now := <-s.located:\n\t\tnow = cursor{}\n", "TestReplay TestHistory"),
	one("another process's numbers", "follow.go", "\tcase since.epoch != now.epoch: // of another process, which may have heard the same\n", "\tcase since.epoch == \"\": // of another process, which may have heard the same\n", "TestHistory"),
	one("a history without gaps", "history.go", "\tif number < h.broken || number > h.number {\n", "\tif number > h.number {\n", "TestHistoryHasGaps"),
	one("a history that forgets in silence", "history.go", "\t\treturn !followed || number < since || number < h.dropped[t]\n", "\t\treturn !followed || number < since\n", "TestHistory"),
	one("a history that begins in silence", "history.go", "\th.number++ // whoever", "\t// whoever", "TestHistoryEnds"),
	one("a history of any length", "history.go", "len(h.kept)-drop > h.events || h.size > h.bytes", "h.size > h.bytes", "TestHistory"),
	one("topics kept for ever", "past.go", "\t\t_ = p.consumer.Unsubscribe(context.Background(), idle...) // waits", "\t\t_ = idle // waits", "TestHistoryEnds"),
	one("a filter that lets all through", "filter.go", "\tf := c.filters[it.topic]\n\treturn f == nil || ", "\tf := c.filters[it.topic]\n\treturn f == nil || f != nil || ", "TestFilters"),
	one("a filter for keys of the same length alone", "filter.go", "if len(ev.Key) < len(f.Key) ||", "if len(ev.Key) != len(f.Key) ||", "TestFilters"),
	one("patterns that are not asked about", "known.go", "TopicMatches(t, known) && g.mayListen(r, []string{known}) == nil", "TopicMatches(t, known)", "TestPatternsOfClients"),
	one("the query in the access log", "accesslog.go", "\t\tpath := r.URL.Path\n", "\t\tpath := r.URL.String()\n", "TestAccessLog"),
	one("compressed for those who do not take it", "page.go", "\tif takesGzip(r) {\n", "\tif len(p.packed) > 0 {\n", "TestCompression"),
	one("a replay only where events came this way", "follow.go", "\tgo t.run()\n", "\tif t.since != nil || t.at != c.gateway.past.newest || !t.caughtUp() {\n\t\tgo t.run()\n\t}\n", "TestReplayOfATopicThatNobodyFollowed"),
	one("a topic that begins where others are", "past.go", "\t\t\tp.noted = time.Time{} // where", "\t\t\t// where", "TestTheFirstClientOfATopicBeginsNow"),
	one("a position that grows old", "past.go", "\tif time.Since(noted) < freshFor {\n", "\tif !noted.IsZero() || freshFor < 0 {\n", "TestNowIsOfNow"),
}
