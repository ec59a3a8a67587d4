package main

var livecacheArea = area{
	name:     "livecache",
	folder:   "livecache",
	packages: []string{"livecache"},
	mutants: []mutant{
		// The fence.
		sampled(one("no fence", "load.go", "case f.fenced || f.generation != c.generation.Load():", "case false:", "TestFence TestOracle")),
		one("no fence for a key", "load.go", "f.fenced || f.generation", "f.generation", "TestFence"),
		one("no fence at a gap", "load.go", "f.fenced || f.generation != c.generation.Load():", "f.fenced:", "TestFence"),
		one("a load that is too old is joined", "cache.go", "\t\t\tf.fenced = true\n\t\t\tdelete(c.flights, key)\n", "\t\t\tf.fenced = true\n", "TestFence"),
		one("a load from before a gap is joined", "cache.go", "\t\tif f.began {\n\t\t\tdelete(c.flights, key)\n\t\t}\n", "\t\t_, _ = key, f\n", "TestFence"),
		one("a load that has not begun is thrown away", "cache.go", "f != nil && f.began {", "f != nil {", "TestFenceSparesWhatHasNotBegun"),
		one("an event forgotten", "cache.go", "\t\tc.entries.Invalidate(key)\n", "", "TestReadsThroughAndForgets TestOracle"),

		// Gaps, and times without events.
		sampled(one("a gap that drops nothing", "events.go", "\t\tc.setLiveLocked(live)\n", "\t\tc.live.Store(live)\n", "TestGapDropsAll")),
		one("kept where no events come", "load.go", "case !c.live.Load():", "case false:", "TestLife TestOutageLoadThrough"),
		one("joined where no events come", "load.go", ", f.began && !c.live.Load()", "", "TestOutageLoadThrough"),
		one("kept when the hub has stopped", "events.go", "case ev.Advisory.Final:", "case false:", "TestLife"),
		one("LoadAll goes back", "events.go", "c.entries.SetIfAbsent", "c.entries.Set", "TestLoadAllDoesNotGoBack"),
		one("LoadAll undoes Invalidate", "events.go", "; !newer {", "; !newer || true {", "TestLoadAllDoesNotGoBack"),
		one("kept while LoadAll fails", "events.go", "\t\t\tc.deaf(true)\n", "", "TestNothingIsKeptWhileLoadAllFails"),
		one("a period that nobody heeds", "cache.go", "\t\tResyncEvery:  cfg.ResyncEvery,\n", "", "TestPollOnly"),
		one("an outage that nobody sees", "events.go", "\tc.hears.Store(false)\n", "", "TestFigures"),
		one("what was invalidated counted as evicted", "cache.go", "e.Cause == otter.CauseOverflow", "e.Cause != otter.CauseReplacement", "TestEvictionsAreCounted"),
		one("keys that are never loaded", "load.go", "\tc.loading.Add(-int64(len(batch)))\n", "", "TestFigures"),

		// Who says that there is a connection: not ResyncEvery.
		one("an outage without a gap that does not end", "events.go", "\t\t\tc.goOn()\n", "", "TestLiveTopicGoesOnBehindAnOutage"),
		one("a period that ends an outage", "events.go", "!c.closed && c.isReached()", "!c.closed && c.begun", "TestResyncEveryIsNoReconnection"),
		one("a period behind which copies are kept in an outage", "events.go", "c.begun && (c.isReached() || c.cfg.Outage == ServeCached)", "c.begun", "TestResyncEveryIsNoReconnection"),
		one("a period that is a beginning", "events.go", "\tif c.begun {\n", "\tif true {\n", "TestResyncEveryIsNoBeginning"),
		one("a period behind which copies are kept before the beginning", "events.go", "c.begun && (c.isReached() ||", "(c.isReached() ||", "TestResyncEveryIsNoBeginning"),
		one("a refused topic that is live", "events.go", "ev.Advisory.Err != nil", "false", "TestRefusedTopicIsNotLive"),
		one("a refused topic for ever", "events.go", "c.begun, c.refused = true, false", "c.begun = true", "TestRefusedTopicIsNotLive"),
		one("a period that counts as trouble", "events.go", "\t\tc.forgetLocked()\n", "\t\tc.dropLocked()\n", "TestResyncEveryIsNotCountedAsDrops"),
		one("an announced gap that Key is asked about", "events.go", "ev.AnnouncesGap() {", "false && ev.AnnouncesGap() {", "TestAnnouncedGapIsNotForKey"),
		one("a Key without the record", "events.go", ", Record: ev.Record}", "}", "TestLiveTopicGoesOnBehindAnOutage"),

		// Events that are not understood, and loads that fail.
		sampled(one("an event that is passed over", "events.go", "if !understood {", "if false && !understood {", "TestWhatIsNotUnderstoodDropsAll")),
		one("a loader that is lost", "load.go", "if !returned && err == errEnded {", "if false && !returned {", "TestLoadFails"),
		one("an error that is kept", "load.go", "\t\tif err == nil {\n", "\t\tif true {\n", "TestLoadFails"),
	},
}
