package main

var streamArea = area{
	name:     "stream",
	folder:   ".",
	packages: []string{"sql", "stream"},
	mutants: []mutant{
		// The order of events.
		one("a position of 18 digits at most", pageSQL, `"where" ~ '^[0-9]{1,19}$'`, `"where" ~ '^[0-9]{1,18}$'`, "TestLocate"),
		sampled(one("in the order of the numbers of transactions", pageSQL, "ORDER BY e.tick, e.txn, e.id;", "ORDER BY e.tick, e.xid::text::numeric, e.id;", "TestTransactionsAreWholeAndInTheirOrder")),
		one("in the order of ids alone", pageSQL, "ORDER BY e.tick, e.txn, e.id;", "ORDER BY e.tick, e.id;", "TestTransactionsAreWholeAndInTheirOrder"),
		one("ids of which sessions keep twenty", "sql/migrations/0010_stream_log.sql", "CREATE SEQUENCE pghub.log_id;", "CREATE SEQUENCE pghub.log_id CACHE 20;", "TestIdsGrowAcrossSessions"),
		one("a filter before the order", pageSQL, "max(l.id) OVER (PARTITION BY l.xid) AS txn", "max(l.id) FILTER (WHERE topics IS NULL OR l.topic = ANY (topics)) OVER (PARTITION BY l.xid) AS txn", "TestTransactionsAreWholeAndInTheirOrder"),

		sampled(one("a transaction that outlives its tick, in that tick", pageSQL, "ELSE width_bucket(late.unseen, run.list) END", "ELSE width_bucket(l.xid, run.tops) END", "TestPagesHaveWhatTheirTicksSay")),
		one("a page without what was open before it", pageSQL, "                SELECT l.* FROM pghub.log l WHERE l.xid = ANY (pending)) AS l", "                SELECT l.* FROM pghub.log l WHERE false) AS l", "TestPagesHaveWhatTheirTicksSay"),
		one("a page that reads behind the last tick", pageSQL, " WHERE run.until IS NOT NULL);", ");", "TestAPageOfNoTick"),
		one("a page that plans when there is a tick", pageSQL, "      IF first.large THEN\n", "      IF first.tick IS NULL THEN\n        RETURN QUERY SELECT before.tick, last, last, NULL::text, NULL::bigint[], 'end', NULL::text, before.at;\n        RETURN;\n      END IF;\n      IF first.large THEN\n", "TestAPageOfNoTick"),
		one("a page that goes on behind a restored tick", pageSQL, " OR before.large AND b.tick > first.tick", "", "TestATransactionThatOutlivesTheTakeover"),
		one("a page read ahead for who may leave", "stream/reader.go", "\t\tif r.goesOn {\n", "\t\tif true {\n", "TestALoopThatBreaksCostsNoConnection"),
		one("a reader that leaves its query behind", "stream/reader.go", "\t\tr.cancel()\n\t\t<-r.ahead\n", "\t\tr.cancel()\n", "TestALoopThatBreaksWaitsForWhatIsReadAhead"),
		one("a page read ahead that is taken for new", "stream/reader.go", "\t\tr.ahead = nil\n", "\t\tr.ahead = nil\n\t\tresult.page.tick = r.pager.s.bus.nextTick()\n", "TestAPageReadAheadSleepsOverNothing"),
		one("a capture that the search path misleads", publishSQL, "IF part OPERATOR(pg_catalog.=) 1 THEN", "IF part = 1 THEN", "TestCaptureTakesNothingFromTheSearchPath"),
		one("a consumer that is released while it is tried, unnoticed", "stream/durable.go", "	go d.run(t, wait, changed)", "	_ = changed\n	go d.run(t, wait, s.bus.nextChange(name))", "TestAConsumerIsReleasedWhileItIsTried"),

		// Ticks.
		sampled(one("a snapshot that waits for nobody", ticksSQL, "      PERFORM pg_advisory_xact_lock(1885816930, 2);\n      SELECT t.*, right(", "      SELECT t.*, right(", "TestTicksWaitForEachOther")),
		{name: "a snapshot from before the lock", edits: []edit{
			{ticksSQL, "      PERFORM pg_advisory_xact_lock(1885816930, 2);\n      SELECT t.*, right(", "      this.snapshot := pg_current_snapshot();\n      PERFORM pg_advisory_xact_lock(1885816930, 2);\n      SELECT t.*, right("},
			{ticksSQL, "pg_current_snapshot() AS snapshot INTO fresh", "this.snapshot AS snapshot INTO fresh"},
		}, tests: []string{"TestTicksWaitForEachOther"}},
		one("ticks at any isolation", ticksSQL, "      IF current_setting('transaction_isolation') <> 'read committed' THEN\n        RAISE EXCEPTION 'pghub.tick", "      IF false THEN\n        RAISE EXCEPTION 'pghub.tick", "TestTicksNeedReadCommitted"),
		one("ticks of a transaction that has written", ticksSQL, "IF pg_current_xact_id_if_assigned() IS NOT NULL THEN\n        RAISE EXCEPTION 'pghub.tick", "IF false THEN\n        RAISE EXCEPTION 'pghub.tick", "TestNoTicksInATransactionThatHasWritten"),
		one("a seek that makes ticks itself", consumersSQL, `IF "to" = 'latest' THEN`, "IF false THEN", "TestSeekKeepsNobodyFromReading"),
		one("ticks that are not flushed", ticksSQL, "PERFORM set_config('synchronous_commit', 'on', true);", "NULL;", "TestTicksAreFlushed"),
		one("ticks that count from one", ticksSQL, "this.tick := greatest(before.tick + 1, pghub.tick_at(this.at));", "this.tick := before.tick + 1;", "TestNumbersOfTicks"),
		one("transactions that were open are forgotten", ticksSQL, "FROM pghub.log WHERE xid = ANY (pending)) AS l", "FROM pghub.log WHERE false) AS l", "TestOpenTransactionsComeLater"),
		one("a part without a number before the first rotation", ticksSQL, "part := coalesce(pg_sequence_last_value('pghub.log_table'::regclass), 0);", "part := pg_sequence_last_value('pghub.log_table'::regclass);", "TestRotationDropsWhatIsOlderThanTheRetention"),
		one("a restored log is taken for this server's", ticksSQL, "        PERFORM pghub.adopt();\n", "        NULL;\n", "TestARestoredLogIsTakenOver"),
		one("numbers of a restored log that come again", ticksSQL, "SELECT '4611686018427387904'::xid8", "SELECT '100'::xid8", "TestARestoredLogIsTakenOver TestPublishedEventsAreReadInTheirOrder"),
		one("a restore that is seen while numbers are small alone", ticksSQL, "OR (before.writer - pg_snapshot_xmax(before.snapshot)::text::bigint) & 4294967295 >= 2147483648", "", "TestEventsBeforeTheFirstTickAfterARestore"),
		one("a takeover that forgets who is at work", ticksSQL, "now_at, pghub.ended(), $2, $3, false", "now_at, concat(pg_current_xact_id(), '':'', pg_current_xact_id(), '':'')::pg_snapshot, $2, $3, false", "TestATransactionThatOutlivesTheTakeover"),
		{
			name: "events of this server taken for restored ones",
			edits: []edit{
				{ticksSQL, "AND age(l.xmin) >= $4", "AND $4 IS NOT NULL"},
				{ticksSQL, "CASE WHEN age(l.xmin) >= restored AND EXISTS", "CASE WHEN EXISTS"},
			},
			tests: []string{"TestEventsBeforeTheFirstTickAfterARestore"},
		},

		// Rotation.
		sampled(one("rotation that does not look", ticksSQL, "      IF used OR (SELECT", "      IF (SELECT", "TestRotationLeavesWhatIsYoung")),
		one("rotation that looks before it locks", ticksSQL, "        EXECUTE format('LOCK TABLE pghub.log_%s, pghub.ticks_%s, pghub.runs_%s IN ACCESS EXCLUSIVE MODE', next, next, next);\n", "        NULL;\n", "TestRotationLeavesWhatIsYoung"),
		one("rotation that looks at no open transaction", ticksSQL, "          OR EXISTS (SELECT FROM pghub.log_%1$s WHERE xid = ANY (pghub.running($2)))', next)", "          ', next)", "TestRotationLeavesWhatIsYoung"),
		one("rotation that waits for readers", ticksSQL, "PERFORM set_config('lock_timeout', '20ms', true);", "PERFORM set_config('lock_timeout', '30s', true);", "TestRotationWaitsForNobody"),
		one("a rotation that was rolled back, and half of it stays", ticksSQL, "        PERFORM setval('pghub.log_table', part);\n", "", "TestRotationThatIsRolledBack"),
		one("a late event that goes without a word", ticksSQL, "        DELETE FROM pghub.ticks t WHERE t.tick < oldest;\n", "        NULL;\n", "TestRotationThatIsRolledBack"),
		one("a time that is looked for in all ticks", ticksSQL, "WHERE l.tick >= pghub.tick_at(since) AND l.at >= since", "WHERE l.at >= since", "TestTicksAreFoundByTheirTime"),
		one("a number below its time", ticksSQL, "SELECT greatest(t.tick + 1, pghub.tick_at(now_at)), now_at, t.snapshot", "SELECT t.tick + 1, now_at, t.snapshot", "TestTheNumberOfATickIsNotBelowItsTime"),
		one("rotation before it is time", ticksSQL, "since > clock_timestamp() - retain / 2", "since > clock_timestamp()", "TestRotationDropsWhatIsOlderThanTheRetention"),

		// Publishing.
		one("a key with NULL", publishSQL, "IF array_to_string(keys, '') ~ '[^-0-9,{}]|[{][{]' THEN", "IF false THEN", "TestOnlyEventsGetIntoTheStream"),

		// The bell.
		one("a writer that never rings", publishSQL, "      IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885816930, 1) THEN\n        NOTIFY \"pghub.bell\";", "      IF pg_catalog.pg_try_advisory_xact_lock_shared(1885816930, 1) THEN", "TestTheBell"),
		one("a writer that holds nothing", publishSQL, "pg_catalog.pg_try_advisory_xact_lock_shared(1885816930, 1)", "pg_catalog.pg_try_advisory_xact_lock_shared(1885816930, 3)", "TestTheBell"),
		one("a writer of many that never rings", publishSQL, "      IF NOT pg_try_advisory_xact_lock_shared(1885816930, 1) THEN\n        NOTIFY \"pghub.bell\";", "      IF pg_try_advisory_xact_lock_shared(1885816930, 1) THEN", "TestTheBell"),
		one("a writer of many that holds nothing", publishSQL, "NOT pg_try_advisory_xact_lock_shared(1885816930, 1)", "NOT pg_try_advisory_xact_lock_shared(1885816930, 3)", "TestTheBell"),
		one("readers told of a tick that they know", "stream/link.go", "		if n.PID != l.conn.PgConn().PID() {", "		if true {", "TestWhichTicksReadersAreToldOf"),
		one("a tick that nobody told of, slept over", "stream/sequencer.go", "	l.announce(ctx)\n	const sql", "	const sql", "TestATickUnderWayAtATakeover"),
		one("a tick that is still made for who is gone, slept over", "stream/sequencer.go", "	if err == nil && !events {\n		l.announce(ctx)\n	}\n", "	_ = events\n", "TestATickUnderWayAtATakeover"),
		one("a sequencer that rests when it is woken", "stream/sequencer.go", "				continue // it looks at once: who rang has committed\n", "", "TestTheSequencerLooksWhenItIsWoken"),
		one("a look before the lock is given back, which rotates nothing", "stream/sequencer.go", "			return true, nil\n", "			_, err := l.tick(ctx)\n			return true, err\n", "TestRotationOfSeldomEvents"),
		one("a sequencer that does not look once more", "stream/sequencer.go", "	if events, err := l.tick(ctx); err != nil || events {\n		return events, err\n	}\n	l.sleeps", "	l.sleeps", "TestTheSequencerLooksOnceMore"),

		// Named consumers.
		sampled(one("a token of the past", consumersSQL, "WHERE k.name = store.name AND k.token = store.token RETURNING k.* INTO c;", "WHERE k.name = store.name RETURNING k.* INTO c;", "TestATokenOfThePastStoresNothing")),
		one("a position that goes back", consumersSQL, "AND ((store.tick, store.txn, store.id) > (k.tick, k.txn, k.id)\n             AND", "AND ((store.tick IS NOT NULL)\n             AND", "TestPositionsGoForward"),
		one("a position of a tick that was lost", consumersSQL, "AND (EXISTS (SELECT FROM pghub.ticks t WHERE t.tick = store.tick) OR store.tick", "AND (true OR store.tick", "TestAServerThatWasSetBack"),
		one("a position that was lost, unnoticed", consumersSQL, "AND ((since_tick, since_txn, since_id) > (k.tick, k.txn, k.id)) IS NOT TRUE", "", "TestAServerThatWasSetBack TestACrashThatLosesCommits"),
		one("tokens that are given again", consumersSQL, "SELECT greatest(token + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)", "SELECT token + 1", "TestATokenIsGivenOnce TestAServerThatWasSetBack"),
		one("a consumer that is gone, and taken", consumersSQL, "EXIT WHEN FOUND;", "EXIT;", "TestAttachWhileSomebodyForgets"),
		one("a replay of what is still to come", consumersSQL, "IF ev.topic IS NOT NULL AND ev.tick <= stop AND (ev.tick, ev.txn, ev.id) <= (c.tick, c.txn, c.id) THEN", "IF ev.topic IS NOT NULL AND ev.tick <= stop THEN", "TestReplayGivesWhatAConsumerHasHad"),
		one("a replay of topics that it never asked for", consumersSQL, "IF c.topics IS NOT NULL THEN", "IF false THEN", "TestReplayGivesWhatAConsumerHasHad"),
		one("a replay that does not wait for the position", consumersSQL, "PERFORM pg_sleep(0.05);", "EXIT;", "TestReplayWaitsForThePosition"),
		one("a consumer that two have", consumersSQL, "IF c.owner <> attach.owner AND c.until > clock_timestamp() THEN", "IF false THEN", "TestATokenOfThePastStoresNothing"),
		one("deaths that nobody counts", consumersSQL, "ELSE k.deaths + 1 END", "ELSE 0 END", "TestAnEventThatEndsTheProcessIsParked"),
		one("an acknowledgement before the work", "stream/lanes.go", "		done, err := l.t.untilDone(", "		if j.item != nil {\n			l.t.progress.finish(j.item)\n			j.item = &item{done: true}\n		}\n		done, err := l.t.untilDone(", "TestThePositionFollowsTheWork"),
		one("what a batch parks counted as done", "stream/durablebatch.go", "b.parked[i]; parked {", "b.parked[i]; parked && reason == nil {", "TestDurableBatchHalts"),
		one("a batch that is larger than it may be", "stream/durablebatch.go", "most := min(len(events), t.d.cfg.Batch)", "most := len(events)", "TestDurableBatchHandlesManyAtOnce"),
		one("a batch that failed acknowledged", "stream/durablebatch.go", "			if err := g.alone(ctx, ev, false); err != nil {\n				return err\n			}\n", "			t.progress.pass(ev.Record.Position)\n", "TestDurableBatchFindsTheOneThatFails"),
		one("an event that is tried once more like any other", "stream/durablebatch.go", ", Again: again}", "}", "TestDurableBatchParks"),
		one("a consumer that is kept after a graceful stop", "stream/tenure.go", "err == nil || errors.Is(err, errSetBack) {\n		t.detach()", "errors.Is(err, errSetBack) {\n		t.detach()", "TestAnotherProcessTakesOverAtOnce"),
		one("a handler's transaction that it may commit", "stream/durabletx.go", "func (handlerTx) Commit(context.Context) error { return errNotYours }", "func (t handlerTx) Commit(ctx context.Context) error { return t.Tx.Commit(ctx) }", "TestTheTransactionOfAHandlerIsEndedForIt"),
		one("a gap without Resync", "stream/tenure.go", "for failures := 0; d.cfg.Resync != nil; failures++ {", "for failures := 0; false; failures++ {", "TestResyncAfterTheRetention"),
		one("a gap of live topics after each reconnection", "advise.go", "		case c.greeted && r.isFedLocked(c):", "		case false:", "TestLiveTopicsHaveNoGap"),
		one("events of live topics lost with the listener", "route.go", "fed && r.phase == phaseAway {", "false {", "TestLiveTopicsHaveNoGap"),
		one("rows in text whose topics are lost", "stream/row.go", "r.topic, r.isEvent = *topic, true", "r.isEvent = true", "TestRowsInText"),
		one("one that has ended forgotten in the sums", "stream/stream.go", "\tcountIn(s.accounts, accountOf(s.accounts, d.name), last)\n", "", "TestDurablesThatHaveEnded"),
		one("names without end", "stream/stats.go", "!known && len(accounts) >= maxAccounts", "false && !known", "TestDurablesThatHaveEnded"),
		one("the one that stands by counts for the one that works", "stream/stats.go", "sum.Working || one.Working", "one.Working", "TestDurablesByName"),
		one("live topics that callers change", "stream/stream.go", "{ return slices.Clone(s.cfg.Live) }", "{ return s.cfg.Live }", "TestLiveTopics"),
		one("a start of nothing that is nowhere", "stream/read.go", "\tat, err := s.locate(ctx, start.orEarliest())\n", "\tat, err := s.locate(ctx, start)\n", "TestLocate"),
		one("a halt that nobody counts", "stream/durable.go", "\t\t\t\td.s.halted.Add(1)\n", "", "TestStatus"),

		// Rights.
		one("everybody may read", "sql/migrations/0015_stream_operate.sql", "    PERFORM pghub.allow(0, 'administer', false);\n", "", "TestWhoMayDoWhatWithTheStream"),

		// Durable watches.
		one("a durable watch that truncates", "sql/migrations/0016_durable_watch.sql", "'payload IS NOT NULL');", "'octet_length(payload) < 8000');", "TestDurableWatch"),
	},
}

const (
	publishSQL   = "sql/migrations/0011_stream_publish.sql"
	ticksSQL     = "sql/migrations/0012_stream_ticks.sql"
	pageSQL      = "sql/migrations/0013_stream_read.sql"
	consumersSQL = "sql/migrations/0014_stream_consumers.sql"
)
