package pgtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrderOfSources(t *testing.T) {
	for _, test := range []struct {
		dsn, bin string
		engine   bool
		want     source
	}{
		{"host=db", "/bin", true, sourceDSN},
		{"", "/bin", true, sourceBinaries},
		{"", "", true, sourceContainer},
		{"", "", false, sourceNone},
	} {
		require.Equal(t, test.want, chooseSource(test.dsn, test.bin, func() bool { return test.engine }))
	}
	chooseSource("", "/bin", func() bool {
		t.Error("the engine was asked although there are binaries")
		return false
	})
}

func TestUnavailableIsOneSentence(t *testing.T) {
	text := ErrUnavailable.Error()
	require.NotContains(t, text, "\n")
	require.NotContains(t, text, ". ")
	for _, way := range []string{"apt-get install postgresql", "Docker", envTestDSN, envDSN} {
		require.Contains(t, text, way)
	}
}

func TestEnvironmentOrder(t *testing.T) {
	t.Setenv(envTestDSN, "")
	t.Setenv(envDSN, "b")
	require.Equal(t, "b", firstSet(envTestDSN, envDSN))
	t.Setenv(envTestDSN, "a")
	require.Equal(t, "a", firstSet(envTestDSN, envDSN))
}

func TestNamedBinariesMustExist(t *testing.T) {
	if !platformManages {
		t.Skip("no servers from binaries on this operating system")
	}
	_, err := Start(t.Context(), Options{Bin: t.TempDir()})
	require.ErrorContains(t, err, "no initdb and postgres in")
	require.NotErrorIs(t, err, ErrUnavailable)
}

func TestEngineProbeReturns(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	require.False(t, engineAnswers(t.Context()))
}

func TestNewest(t *testing.T) {
	require.Equal(t, "", newest(nil))
	require.Equal(t, "/usr/lib/postgresql/17/bin", newest([]string{
		"/usr/local/pgsql/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin", "/usr/pgsql-16/bin",
	}))
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)": 150018,
		"postgres (PostgreSQL) 19beta1":                        190000,
		"postgres (PostgreSQL) 9.6.24":                         90624,
		"something else":                                       0,
	} {
		require.Equal(t, want, parseVersion(text), text)
	}
}

func TestWithDatabase(t *testing.T) {
	for _, test := range []struct{ dsn, want string }{
		{"postgres://u:p@h:1/postgres?sslmode=disable", "postgres://u:p@h:1/x%20y?sslmode=disable"},
		{"postgresql://h1:1,h2:2/a", "postgresql://h1:1,h2:2/x%20y"},
		{"postgres://h?dbname=a", "postgres://h/x%20y"},
		{"host=h dbname=a", "host=h dbname=a dbname='x y'"},
	} {
		require.Equal(t, test.want, withDatabase(test.dsn, "x y"))
	}
}

func TestSettings(t *testing.T) {
	text := Options{Settings: map[string]string{"fsync": "on", "a.b": `it's \`}, TLS: &TLS{}}.settings()
	require.Contains(t, text, "fsync = 'on'\n")
	require.Contains(t, text, `a.b = 'it''s \\'`)
	require.Contains(t, text, "ssl = 'on'\n")
	require.NotContains(t, text, "ssl_ca_file")
	require.Equal(t, 1, strings.Count(text, "fsync"))
}

func TestContainerRequest(t *testing.T) {
	request := containerRequest(Options{Settings: map[string]string{"fsync": "on"}, InitArgs: []string{"-E", "LATIN1"}})
	require.Equal(t, "postgres", request.Cmd[0])
	require.Contains(t, request.Cmd, "--fsync=on")
	require.Contains(t, request.Cmd, "--listen_addresses=*")
	require.Equal(t, "--locale=C -E UTF8 -E LATIN1", request.Env["POSTGRES_INITDB_ARGS"])
	_, err := startContainer(t.Context(), Options{HBA: "x"})
	require.ErrorContains(t, err, "HBA")
}

func TestSkips(t *testing.T) {
	wrapped := fmt.Errorf("wrapped: %w", ErrUnavailable)
	require.True(t, skips(wrapped, ""))
	require.False(t, skips(wrapped, "true"))
	require.False(t, skips(errors.New("connection refused"), ""))
}

// fakeTB records how a test was ended.
type fakeTB struct {
	testing.TB
	end string
}

func (f *fakeTB) Helper()              {}
func (f *fakeTB) Fatal(...any)         { f.stop("fatal") }
func (f *fakeTB) Skipf(string, ...any) { f.stop("skip") }
func (f *fakeTB) stop(how string)      { f.end = how; panic(f) }

func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{"": "skip", "true": "fatal"} {
		t.Setenv("CI", ci)
		fake := &fakeTB{}
		require.Panics(t, func() { missing(fake, ErrUnavailable) })
		require.Equal(t, want, fake.end)
	}
}
