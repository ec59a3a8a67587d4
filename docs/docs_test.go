package docs_test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
	"github.com/pghub/pghub/sql"
	"github.com/pghub/pghub/stream"
)

// document is a page of Markdown.
type document struct {
	path string
	text string
}

// documents returns README.md and docs, or with all every page of the repository.
func documents(t *testing.T, all bool) (found []document) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (entry.Name() == "node_modules" || entry.Name() == "artifacts" || entry.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md" && (all || path == "README.md" || filepath.Dir(path) == "docs"):
			text, err := os.ReadFile(path)
			found = append(found, document{filepath.ToSlash(path), string(text)})
			return err
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

// blocks returns what a page has in code blocks of a language. A page shows a session of psql, or anything else that is not
// to be run as it stands, in a block of another language, such as text.
func (d document) blocks(language string) (found []string) {
	for _, match := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(d.text, -1) {
		found = append(found, match[1])
	}
	return found
}

var (
	fences   = regexp.MustCompile("(?s)\n```.*?\n```\n")
	spans    = regexp.MustCompile("`[^`\n]*`")
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped  = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

// prose is the page without code.
func (d document) prose() string {
	return spans.ReplaceAllString(fences.ReplaceAllString(d.text, "\n"), "")
}

// anchors are the places of a page that a link may name, as GitHub makes them of headings.
func (d document) anchors() map[string]bool {
	found := make(map[string]bool)
	for _, match := range headings.FindAllStringSubmatch(d.text, -1) {
		found[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")] = true
	}
	return found
}

// Every link of every page leads somewhere: to a file, and to a heading in it. Of links to elsewhere only the form is checked.
func TestDocsLinks(t *testing.T) {
	pages := make(map[string]document)
	for _, page := range documents(t, true) {
		pages[page.path] = page
	}
	checked := 0
	for _, path := range slices.Sorted(maps.Keys(pages)) {
		for _, match := range links.FindAllStringSubmatch(pages[path].prose(), -1) {
			checked++
			link, err := url.Parse(match[1])
			require.NoError(t, err, "%s: %s", path, match[1])
			if link.Scheme != "" {
				require.Equal(t, "https", link.Scheme, "%s: %s", path, match[1])
				require.NotEmpty(t, link.Host, "%s: %s", path, match[1])
				continue
			}
			target := path
			if link.Path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(path), filepath.FromSlash(link.Path)))
				_, err := os.Stat(target)
				require.NoError(t, err, "%s links to %s", path, match[1])
			}
			if link.Fragment != "" {
				require.True(t, pages[target].anchors()[link.Fragment], "%s links to %s, which has no such heading", path, match[1])
			}
		}
	}
	require.Greater(t, checked, 50, "the test sees links")
}

// Every script that a page names is there.
func TestDocsScripts(t *testing.T) {
	for _, page := range documents(t, true) {
		for _, name := range regexp.MustCompile(`\bscripts/[a-z-]+\b`).FindAllString(page.text, -1) {
			_, err := os.Stat(name)
			if err != nil { // a page of a module may mean its own
				_, err = os.Stat(filepath.Join(filepath.Dir(page.path), name))
			}
			require.NoError(t, err, "%s names %s", page.path, name)
		}
	}
}

// Every file of Go that ARCHITECTURE.md names is there, and it names every file of the root but tests, all that have a lock in
// the table of locks, and every folder of internal.
func TestArchitectureNamesFiles(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	require.NoError(t, err)
	named := make(map[string]bool)
	for _, name := range regexp.MustCompile(`[a-z][a-z_/0-9]*\.go\b`).FindAllString(string(text), -1) {
		_, err := os.Stat(name)
		require.NoError(t, err, "ARCHITECTURE.md names %s", name)
		named[name] = true
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		require.True(t, named[name], "ARCHITECTURE.md does not name %s", name)
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		if regexp.MustCompile(`\bsync\.(RW)?Mutex\b`).Match(source) {
			require.Regexp(t, regexp.MustCompile("(?m)^\\| `[a-z]+\\.mu`.*\\b"+name), string(text), "%s has a lock", name)
		}
	}
	folders, err := filepath.Glob("internal/*")
	require.NoError(t, err)
	for _, folder := range folders {
		require.Contains(t, string(text), "("+filepath.ToSlash(folder)+")")
	}
}

// fragmentNames is what fragments of Go may use without saying where it comes from.
const fragmentNames = `package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
)

var (
	t      *testing.T
	ctx    context.Context
	pool   *pgxpool.Pool
	hub    *pghub.Hub
	handle pghub.Handler
	cache  interface{ Reload(context.Context) error }
)

type prices struct{} // of the reader's program

func NewPrices(*pghub.Hub) prices        { return prices{} }
func (prices) Await(id int64, price int) {}
func (prices) AwaitReload()              {}

func main() {}
`

// fragmentImports are the packages that a fragment need not import. Package sql is not among them: nobody can guess its path.
var fragmentImports = map[string]string{
	"context": "context", "fmt": "fmt", "os": "os", "log": "log", "errors": "errors", "slog": "log/slog", "time": "time",
	"testing": "testing", "synctest": "testing/synctest", "pghubtest": "github.com/pghub/pghub/pghubtest",
	"pgx": "github.com/jackc/pgx/v5", "pgxpool": "github.com/jackc/pgx/v5/pgxpool", "pghub": "github.com/pghub/pghub",
}

// fragment makes a file of a fragment: its imports first, and the rest as it is, if it is a function, or as the body of one.
func fragment(text, name string) string {
	var imports, body strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "import ") {
			imports.WriteString(line)
		} else {
			body.WriteString(line)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(fragmentImports)) {
		if regexp.MustCompile(`\b` + pkg + `\.`).MatchString(body.String()) {
			fmt.Fprintf(&imports, "import %q\n", fragmentImports[pkg])
		}
	}
	if strings.HasPrefix(body.String(), "func ") {
		return fmt.Sprintf("package main\n\n%s\n%s", &imports, &body)
	}
	return fmt.Sprintf("package main\n\n%s\nfunc %s() (err error) {\n%s\n_ = hub\nreturn err\n}\n", &imports, name, &body)
}

// otherModules are imports that the library does not come with.
var otherModules = regexp.MustCompile(`"github.com/pghub/pghub/(livecache|metrics)`)

// Every block of Go compiles: programs by themselves, fragments inside a function.
func TestDocsGo(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "names.go")}
	require.NoError(t, os.WriteFile(files[0], []byte(fragmentNames), 0o600))
	for _, page := range documents(t, false) {
		for i, block := range page.blocks("go") {
			switch {
			case strings.HasPrefix(block, "package ") && otherModules.MatchString(block):
				require.Equal(t, "docs/first-service.md", page.path, "examples/frameworks runs the program of that page")
				continue
			case strings.HasPrefix(block, "package "):
				compile(t, block)
				continue
			}
			name := regexp.MustCompile(`\W`).ReplaceAllString(fmt.Sprint(page.path, i), "_")
			file := filepath.Join(dir, name+".go")
			require.NoError(t, os.WriteFile(file, []byte(fragment(block, name)), 0o600))
			files = append(files, file)
		}
	}
	require.Greater(t, len(files), 5, "the test sees fragments")
	out, err := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", filepath.Join(dir, "program.exe")}, files...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// Every block of SQL of docs runs, in the order of its page, in a database with schema pghub.
func TestDocsSQL(t *testing.T) {
	ran := 0
	for _, page := range documents(t, false) {
		blocks := page.blocks("sql")
		if page.path == "README.md" || len(blocks) == 0 { // README.md: see TestReadmeSQL
			continue
		}
		pool := pgtest.Pool(t, pgtest.Database(t))
		require.NoError(t, sql.Install(t.Context(), pool))
		_, err := pool.Exec(t.Context(), "CREATE TABLE people (id bigint PRIMARY KEY, name text)") // that pages speak of
		require.NoError(t, err)
		require.NoError(t, sql.Apply(t.Context(), pool, sql.Watch{Table: "people"}))
		_, err = pool.Exec(t.Context(), "SELECT pghub.attach('billing', 'a process that is gone', '1 s', NULL, 'earliest')")
		require.NoError(t, err)
		for _, block := range blocks {
			_, err := pool.Exec(t.Context(), block)
			require.NoError(t, err, "%s:\n%s", page.path, block)
			ran++
		}
	}
	require.NotZero(t, ran)
}

// The tables of docs/reference.md leave nothing out.
func TestDocsReferenceIsComplete(t *testing.T) {
	text, err := os.ReadFile("docs/reference.md")
	require.NoError(t, err)
	for _, kind := range []reflect.Type{
		reflect.TypeFor[pghub.Config](), reflect.TypeFor[pghub.ConsumerConfig](), reflect.TypeFor[stream.Config](), reflect.TypeFor[stream.DurableConfig](),
	} {
		for i := range kind.NumField() {
			row := regexp.MustCompile("(?m)^\\| [^|]*`" + kind.Field(i).Name + "`")
			require.Regexp(t, row, string(text), "%s.%s has no row", kind.Name(), kind.Field(i).Name)
		}
	}
	source, err := os.ReadFile("errors.go")
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`(?m)^\t(Err\w+) +=`).FindAllStringSubmatch(string(source), -1) {
		require.Regexp(t, regexp.MustCompile("(?m)^\\| [^|]*`"+match[1]+"`"), string(text), "%s has no row", match[1])
	}
	source, err = os.ReadFile("stream/stream.go")
	require.NoError(t, err)
	of := regexp.MustCompile(`(?m)^\t(Err\w+) +=`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, of)
	for _, match := range of {
		require.Contains(t, string(text), "| `stream."+match[1]+"` |")
	}
	source, err = os.ReadFile("event.go")
	require.NoError(t, err)
	actions := regexp.MustCompile(`(?m)^\tAction\w+ +.*= "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, actions)
	for _, match := range actions {
		require.Contains(t, string(text), "| `"+match[1]+"` |")
	}
}

// docs/moving.md says that keys beyond int64 are refused, and not cut.
func TestDocsWideKeysAreRefused(t *testing.T) {
	for _, payload := range []string{"e1329227995784915872903807060280344575", "e-1329227995784915872903807060280344575,7"} { // 2¹²⁰ - 1
		ev := &pghub.Event{Topic: "t", Payload: []byte(payload)}
		require.Error(t, pghub.KeyValueCodec{}.Decode(ev))
		require.Empty(t, ev.Key)
	}
}
