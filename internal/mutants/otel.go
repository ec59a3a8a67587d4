package main

var otelArea = area{
	name:     "otel",
	folder:   "metrics/otel",
	packages: []string{"metrics/otel"},
	mutants: []mutant{
		one("a figure of another", "figures.go", "return s.Lags", "return s.Gaps", "TestNothingIsLeftOut"),
		one("instruments that are read for ever", "metrics.go", "return m.registration.Unregister()", "return nil", "TestMetrics"),
		one("durations in milliseconds", "metrics.go", "time.Since(begun).Seconds()", "float64(time.Since(begun).Milliseconds())", "TestMetrics"),
		one("no answer taken for a stream without consumers", "stream.go", "observe(o, []figure[error]{up}, err, of)", "observe(o, []figure[error]{up}, nil, of)", "TestStreamMetrics"),
		one("a lag of another", "stream.go", "float64(s.BytesBehind)", "float64(s.EventsBehind)", "TestNothingIsLeftOut"),
		sampled(one("a parent and no link", "tracing.go", "trace.WithLinks(trace.Link{SpanContext: publisher}))", "trace.WithNewRoot())", "TestNotificationsAreLinked TestStreamIsLinked")),
		one("a span that the handler does not see", "tracing.go", "\t\tctx, span := t.process(ctx, ev)\n\t\tdefer span.End()\n\t\tnext(ctx, ev)\n",
			"\t\t_, span := t.process(ctx, ev)\n\t\tdefer span.End()\n\t\tnext(ctx, ev)\n", "TestNotificationsAreLinked"),
		one("an error that no span has", "tracing.go", "\tif err != nil {\n\t\tspan.RecordError", "\tif false {\n\t\tspan.RecordError", "TestNotifyFails TestStreamIsLinked"),
		one("the envelope left around the value", "envelope.go", "if ev.Value = in.Value; string(ev.Value) == \"null\" {", "if false {", "TestEnvelope TestNotificationsAreLinked"),
		one("an envelope anywhere in the value", "envelope.go", "!bytes.HasPrefix(value, []byte(mark)) ||", "!bytes.Contains(value, []byte(mark)) ||", "TestNoEnvelope"),
		one("a broken envelope taken for a value", "envelope.go", "\t\treturn err\n\t}\n\tif ev.Value", "\t\treturn nil\n\t}\n\tif ev.Value", "TestNoEnvelope"),
		one("an echo", "tracing.go", "headersOf(ev)[originHeader] != t.origin", "true", "TestSkipOwn"),
		one("advisories skipped", "tracing.go", "t.origin == \"\" || ev.Advisory != nil ||", "ev.Advisory == nil &&", "TestSkipOwn"),
	},
}
