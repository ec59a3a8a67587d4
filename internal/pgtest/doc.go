// Package pgtest gives tests, examples and benchmarks a real PostgreSQL without any set-up.
//
// A server comes from the first of these that is there:
//
//  1. a DSN in the environment: PGHUB_TEST_DSN (for tests only), else DATABASE_URL;
//  2. installed binaries (in PGHUB_PG_BIN, in PATH or in the usual folders): initdb and postgres in a
//     temporary folder, on a free port of 127.0.0.1, gone when this process is gone;
//  3. a container, when a Docker engine answers.
//
// If there is none of them, tests are skipped, or fail where the environment variable CI is set.
//
// Tests call [Database] for a fresh database on the one server of their process, and [Private] for a server
// that they may stop, kill or replicate. A package whose tests call [Database] or [Shared] has a TestMain that
// calls [Main]. Programs call [Open], or [Start] for a server of their own, and [Server.Close].
//
// Servers from binaries need Linux, macOS or a BSD. What a killed process leaves behind is removed by the next
// one that starts a server.
package pgtest
