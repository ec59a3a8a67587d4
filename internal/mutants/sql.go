package main

var sqlArea = area{
	name:     "sql",
	folder:   "sql",
	packages: []string{"sql", "."}, // the root has what follows from an announced gap
	mutants: []mutant{
		// What is excluded, and what the key is.
		sampled(one("an excluded column under the name of an announced one", rowSQL, "(c ->> 0)::int, c ->> 1), ' OR '))", "(c ->> 0)::int, c ->> 1), ' OR ') || ' OR true LIMIT ' || jsonb_array_length(columns))", "TestExcludedColumnsStayOutByNumber")),
		one("excluded columns published on the long way", rowSQL, " OR NOT a.attisdropped AND a.attname <> c ->> 1)", ")", "TestExcludedColumnsStayOutByNumber"),
		sampled(one("INCLUDE columns taken for the key", rowSQL, " AND k.n <= i.indnkeyatts", "", "TestRowIncludedColumnsAreNoKey")),
		one("INCLUDE columns taken for the keys of a statement", statementSQL, " AND k.n <= i.indnkeyatts", "", "TestRowIncludedColumnsAreNoKey"),
		sampled(one("columns that change names", announcersSQL, ", names),\n", ", 'true'),\n", "TestRowKeyMoved")),
		one("any index is the right one", announcersSQL, "%L::@regclass [=] %s::@oid AND %s'), definition ->> 'index', coalesce(index_oid, 0), names)", "true OR %L::@regclass [=] %s::@oid AND %s'), definition ->> 'index', coalesce(index_oid, 0), names)", "TestRowKeyRetyped"),
		one("a type that only looks like an integer", rowSQL, "array_agg(t.typoutput IN ('int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc) ORDER BY k.n)", "array_agg(t.typcategory = 'N' ORDER BY k.n)", "TestRowKeyRetyped"),
		one("no old key", rowSQL, "THEN pg_catalog.concat('',\"old_key\":['', ' || key[2] || ', '']'') END' END", "THEN NULL END' END", "TestRowOldKey"),
		one("no old key of what is too large", rowSQL, "      old_key := %17$s;\n", "", "TestRowTooLarge TestRowOldKey"),
		one("the long way without what has changed", rowSQL, "        NULL;\n        %10$s\n", "        NULL;\n", "TestRowBothWaysAgree"),
		one("keys of inherited tables twice", statementSQL, "astray := EXISTS (SELECT FROM @pg_inherits AS i WHERE i.inhparent [=] TG_RELID);", "NULL;", "TestStatementInheritedKeysOnce"),

		// Sessions and their settings.
		sampled(one("a session's settings at level statement", statementSQL, "width, short, pghub.setting(), pghub.unsetting()", "width, short, ''::text, ''::text", "TestStatementSettings")),
		one("settings that are not given back", statementSQL, "width, short, pghub.setting(), pghub.unsetting()", "width, short, pghub.setting(), ''::text", "TestStatementSettings"),
		one("a session's settings at level row", statementSQL, "WHERE n = 1 OR (definition ->> 'plain')::boolean IS NOT TRUE", "WHERE n = 1", "TestTypes"),
		one("a session's zone", statementSQL, "WHERE n = 1 OR (definition", "WHERE (definition", "TestRowBothWaysAgree"),
		one("a number that a session has set fails the writer", rowSQL, "substring(@current_setting('pghub.seq', true), '^[0-9]{1,17}$')", "nullif(@current_setting('pghub.seq', true), '')", "TestWritersNeverFail"),
		one("pg_notify without asking", rowSQL, "[<=] 7999 AND @has_function_privilege('pg_catalog.pg_notify(pg_catalog.text,pg_catalog.text)'::@regprocedure, 'EXECUTE') THEN", "[<=] 7999 THEN", "TestWritersNeverFail"),
		one("events of one number", rowSQL, "::@int8 [+] 1)::@text, true)$t$);\n      next_of_any", "::@int8 [+] 0)::@text, true)$t$);\n      next_of_any", "TestRowEqualChangesInOneTransaction"),

		// Names and topics.
		sampled(one("a topic that is not quoted", rowSQL, "@pg_notify(%13$L, payload)", "@pg_notify('%13$s', payload)", "TestOddTopics")),
		one("a topic that is not quoted where pg_notify is not to be had", announcersSQL, "@pg_notify(%1$L, payload)", "@pg_notify('%1$s', payload)", "TestOddTopics"),
		one("columns that are not quoted", rowSQL, "format('%s.%I', record, name)", "format('%s.%s', record, name)", "TestOddNames"),
		one("tables that are not quoted", watchSQL, "'ON', format('%I.%I', rel.nspname, rel.relname)", "'ON', format('%s.%s', rel.nspname, rel.relname)", "TestOddNames"),

		// To install.
		one("Install leaves its search_path", installedSQL, pathBack, "END $migration$;", "TestInTheCallersTransaction"),
		one("the check leaves its search_path", checkSQL, "      PERFORM pg_catalog.set_config('search_path', caller_path, true);\n      RETURN;", "      RETURN;", "TestInTheCallersTransaction"),
		one("the first check leaves its search_path", checkSQL, "  PERFORM pg_catalog.set_config('search_path', caller_path, true);\nEND", "END", "TestInTheCallersTransaction"),
		one("Uninstall leaves its search_path", "uninstall.sql", "  PERFORM pg_catalog.set_config('search_path', caller_path, true);\n", "", "TestInTheCallersTransaction"),
		sampled(one("anybody's schema is trusted", checkSQL, "  IF stranger IS NOT NULL THEN", "  IF stranger = 'nobody' THEN", "TestInstallRefusesAStrangersSchema")),
		one("only the schema's owner is looked at", checkSQL, "UNION SELECT p.proowner FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'pghub'", "UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'pghub'", "TestInstallRefusesAStrangersSchema"),
		one("a record of versions that stays empty", checkSQL, "  IF EXISTS (SELECT FROM pg_tables WHERE schemaname = 'pghub' AND tablename = 'migrations') THEN", "  IF false THEN", "TestInstallAfterSchemaOnlyDump"),
		one("names in the encoding of the pool", "apply.go", "if encoding == \"UTF8\" {", "if true {", "TestNamesInAnotherEncoding"),

		// To watch.
		sampled(one("watch without its lock", watchSQL, "          EXECUTE format('LOCK TABLE ONLY %s IN %s MODE', relation, mode);", "          NULL;", "TestWatchWaitsBeforeItPlans")),
		one("watch locks what is in effect", watchSQL, "AND w.definition = wanted::text)", "AND w.definition = '')", "TestWatchUnchangedLocksNothing"),
		one("an endless wait for a lock", watchSQL, "CASE patience WHEN '0' THEN '2s' ELSE patience END, true);\n      IF mode", "'0', true);\n      IF mode", "TestWatchGivesUpALock"),
		one("Apply that tries once", "apply.go", "lockAttempts        = 6", "lockAttempts        = 1", "TestApplyTriesAgain"),
		one("an old program takes a new watch back", watchSQL, "(there.definition::jsonb ->> 'generation')::int, 0) > coalesce(generation, 0) THEN", "(there.definition::jsonb ->> 'generation')::int, 0) > 99 THEN", "TestGeneration"),
		one("ENABLE ALWAYS taken back", watchSQL, "AND t.tgenabled = 'A';", "AND t.tgenabled = 'X';", "TestEnableAlwaysAndReplica"),
		one("ENABLE REPLICA taken for enabled", watchSQL, "bool_and(w.tgenabled IN ('O', 'A'))", "bool_and(w.tgenabled IN ('O', 'A', 'R'))", "TestEnableAlwaysAndReplica"),
		one("a topic that two tables share", watchSQL, "ELSE rel.nspname || '.' || rel.relname END", "ELSE rel.relname END", "TestDefaultTopic"),
		one("names of triggers that partitions have too", watchSQL, "        prefix := prefix || '~' || left(md5(rel.nspname || '.' || rel.relname), 6);\n", "        NULL;\n", "TestAttachWatchedPartition"),

		// The switch.
		sampled(one("a gap announced before silent writers have ended", operateSQL, "      WHILE pg_catalog.cardinality(pghub.writers(topic, relation, writers)) OPERATOR(pg_catalog.>) 0 LOOP", "      WHILE false LOOP", "TestUnmuteWaitsForSilentWriters TestUnmuteInterrupted")),
		one("writers of partitions forgotten", operateSQL, "UNION SELECT t.relid FROM pghub.unannounced($1, $2) u, pg_partition_tree(u.watched) t", "", "TestUnmuteWaitsForSilentWriters"),
		one("prepared transactions forgotten", operateSQL, " OR l.pid IS NULL)", ")", "TestUnmuteWaitsForPreparedTransactions"),
		one("an unmute that waits for all who come", operateSQL, "pghub.writers(topic, relation, writers)", "pghub.writers(topic, relation)", "TestUnmuteWaitsForSilentWriters"),
		one("a gap that is forgotten", operateSQL, "      WHERE m.ended IS NULL AND (end_mutes.topic", "      WHERE false AND (end_mutes.topic", "TestMute TestUnmuteIsAGap"),
		one("a mute that begins anew", operateSQL, "UPDATE pghub.mutes m SET ended = NULL WHERE", "DELETE FROM pghub.mutes m WHERE false AND", "TestUnmuteInterrupted"),
		one("a gap announced while it lasts", operateSQL, " AND NOT w.muted\n", "\n", "TestUnmuteOneOfTwo"),
		one("an announced gap without Resync", "../turn.go", "case ev.gap && c.resync != nil:", "case ev.gap && false:", "TestResyncWhereAPublisherAnnouncesAGap TestUnmuteIsAGap"),
		one("a gap that a codec keeps to itself", "../route.go", "if err != nil && gap {", "if false {", "TestResyncWhereAPublisherAnnouncesAGap"),
		one("a gap taken for a value", "../topic.go", "	if ev.gap {\n", "	if false {\n", "TestTopicAnnouncedGapIsNoValue"),
		one("an event that looks like a gap", "../announced.go", " && (payload[n] == ',' || payload[n] == '}')", "", "TestResyncWhereAPublisherAnnouncesAGap"),
	},
}

// Files, and a text that each of them has.
const (
	checkSQL      = "migrations/0000_check.sql"
	announcersSQL = "migrations/0005_announcers.sql"
	rowSQL        = "migrations/0006_announce_row.sql"
	statementSQL  = "migrations/0007_announce_statement.sql"
	watchSQL      = "migrations/0008_watch.sql"
	operateSQL    = "migrations/0009_operate.sql"
	installedSQL  = "migrations/0004_watch.sql"
	pathBack      = "  PERFORM pg_catalog.set_config('search_path', caller_path, true);\nEND $migration$;"
)
