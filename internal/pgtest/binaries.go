package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
)

// findBinaries returns the folder of an installed server: the one in PATH, else the newest in the usual places,
// else "".
func findBinaries() string {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if program, err := filepath.EvalSymlinks(initdb); err == nil && hasServer(filepath.Dir(program)) {
			return filepath.Dir(program) // a folder of links may lack the other programs
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",       // Debian, Ubuntu
		"/usr/pgsql-*/bin",                // packages of the PostgreSQL project for RPM systems
		"/usr/libexec/postgresql*",        // Alpine
		"/usr/local/pgsql/bin",            // built from source
		"/opt/homebrew/opt/postgres*/bin", // Homebrew
		"/usr/local/opt/postgres*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs, _ := filepath.Glob(pattern) // fails for a bad pattern only
		for _, dir := range dirs {
			if hasServer(dir) {
				found = append(found, dir)
			}
		}
	}
	return newest(found)
}

// hasServer says whether dir holds the programs that make and run a server.
func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

var (
	lastNumber    = regexp.MustCompile(`(\d+)(?:\.(\d+))?[^0-9]*$`)
	serverVersion = regexp.MustCompile(`PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?`)
)

// newest returns the folder with the highest version in its name; those without a number come last.
func newest(dirs []string) string {
	if len(dirs) == 0 {
		return ""
	}
	version := func(dir string) int {
		match := lastNumber.FindStringSubmatch(dir)
		if match == nil {
			return -1
		}
		return number(match[1])*1000 + number(match[2])
	}
	sorted := append([]string(nil), dirs...)
	sort.SliceStable(sorted, func(i, j int) bool { return version(sorted[i]) > version(sorted[j]) })
	return sorted[0]
}

// binaryVersion asks the server program in bin for its version, in the form of server_version_num.
func binaryVersion(ctx context.Context, bin string) (int, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("pgtest: postgres --version: %w", err)
	}
	version := parseVersion(string(out))
	if version == 0 {
		return 0, fmt.Errorf("pgtest: postgres --version says %q", out)
	}
	return version, nil
}

// parseVersion turns "postgres (PostgreSQL) 15.18 (Debian …)" into 150018; 0 if there is no version in the text.
func parseVersion(text string) int {
	match := serverVersion.FindStringSubmatch(text)
	if match == nil {
		return 0
	}
	if major := number(match[1]); major >= 10 {
		return major*10000 + number(match[2])
	}
	return number(match[1])*10000 + number(match[2])*100 + number(match[3])
}

// number reads the digits that a pattern has matched; none are 0.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
