package main

var (
	commitRate    = figure{"commits/s", mainFigure, formatCount}
	statementRate = figure{"statements/s", mainFigure, digits}
	handlerP50    = figure{"p50", func(s sample) float64 { return s.p50.Seconds() }, formatSeconds}
	handlerP99    = figure{"p99", func(s sample) float64 { return s.p99.Seconds() }, formatSeconds}
	rowCount      = figure{"rows", mainFigure, digits}
)

// streamTargets are what package stream has to reach.
var streamTargets = []target{
	{"stream commits", "64 sessions, slow disk", byDurable, byNotify, commitRate, 11, 0},
	{"stream commits", "64 sessions, slow disk", byDurable, byAlone, commitRate, 0.5, 0},
	{"stream commits", "8 sessions, slow disk", byDurable, byNotify, commitRate, 3.5, 0},
	{"stream commits", "8 sessions, fast disk", byDurable, byNotify, commitRate, 1.2, 0},
	{"stream backlog", "backlog", byRead, "", eventRate, 200_000, 0},
	{"stream backlog", "backlog", byRead, bySlot, eventRate, 5, 0},
	{"stream watermill", "backlog", byDurables, byWatermill, eventRate, 5, 0},
	{"stream watermill", "backlog", byDurables, byWatermillTuned, eventRate, 5, 0},
	{"stream publish", "256 callers, slow disk", byPublish, byInsert, eventRate, 30, 0},
	{"stream publish", "256 callers, fast disk", byPublish, byInsert, eventRate, 4, 0},
	{"stream latency", "500/s", byDurables, "", handlerP50, 0, 0.004},
	{"stream latency", "500/s", byDurables, "", handlerP99, 0, 0.020},
	{"stream latency", "500/s", byDurables + openSuffix, byDurables, handlerP99, 0, 2},
	{"stream latency", "500/s", byDurables, byWatermill, handlerP50, 0, 0.1},
	{"stream latency", "500/s", byDurables, byWatermillTuned, handlerP50, 0, 0.1},
	{"stream latency", "asleep", byDurables, "", handlerP99, 0, 0.020},
	{"stream tx", "batches of 100", byDurableTx, "", eventRate, 20_000, 0},
	{"stream consumers", "500/s", "10 consumers", "1 consumer", timeFigure, 0, 1.3},
	{"stream asleep", "nothing happens", byOthers, "", statementRate, 0, 0.01}, // none
	{"stream dead rows", "dead rows", byLog, "", rowCount, 0, 0.01},            // none
}
