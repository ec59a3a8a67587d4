package main

var prometheusArea = area{
	name:     "prometheus",
	folder:   "metrics/prometheus",
	packages: []string{"metrics/prometheus"},
	mutants: []mutant{
		one("a figure of another", "collector.go", "return s.Lags", "return s.Gaps", "TestNothingIsLeftOut"),
		one("counters that fall", "collector.go", "c.hub.StatsByName()", "c.hub.ConsumerStats()", "TestNamesAreBounded"),
		sampled(one("series without bound", "durations.go", "len(d.names) >= maxNames", "len(d.names) < 0", "TestNamesAreBounded")),
		one("hubs that cannot be told apart", "metric.go", "\"hub\": hub.Name()", "\"hub\": \"\"", "TestSeveralHubs"),
		one("an age that is none", "collector.go", "return time.Since(since).Seconds()", "return float64(since.Unix())", "TestCollector"),
		one("durations of what returns only", "durations.go", "\t\tdefer func() { c.durations.of(name).Observe(time.Since(begun).Seconds()) }()\n\t\tnext(ctx, ev)\n",
			"\t\tnext(ctx, ev)\n\t\tc.durations.of(name).Observe(time.Since(begun).Seconds())\n", "TestCollector"),
		one("durations in milliseconds", "durations.go", "time.Since(begun).Seconds()", "float64(time.Since(begun).Milliseconds())", "TestObserve"),
		one("caches that cannot be told apart", "cache.go", "\"cache\": cache.Name()", "\"cache\": \"\"", "TestCacheCollector"),
		one("misses that are hits", "cache.go", "return s.Misses", "return s.Hits", "TestNothingOfCachesIsLeftOut"),
		one("a page that waits for the database", "stream_status.go", "context.WithTimeout(context.Background(), statusTimeout)", "context.WithTimeout(context.Background(), 100*statusTimeout)", "TestStatusThatHangs"),
		sampled(one("no answer taken for a stream without consumers", "stream_status.go", "oneIf(err == nil)", "oneIf(true)", "TestStreamCollector TestStatusThatHangs")),
	},
}
