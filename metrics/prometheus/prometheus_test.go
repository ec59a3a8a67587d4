package pghubprom

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/pgtest"
)

// program finds a program of Prometheus. Where it is missing the test is skipped, but for a continuous integration.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%v: it comes with the package prometheus of Debian", err)
	}
	t.Skipf("NOT TESTED: %v", err)
	return ""
}

// The rules are well-formed, each alert fires when it should, and is silent before.
func TestAlertRules(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		out, err := exec.Command(promtool, args...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
}

// alertNames are the alerts of alerts.yml.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("alerts.yml")
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`alert: (\w+)`).FindAllSubmatch(text, -1) {
		names = append(names, string(match[1]))
	}
	require.NotEmpty(t, names)
	return names
}

// Each alert has a unit test, and is explained.
func TestAlertsAreTested(t *testing.T) {
	text, err := os.ReadFile("alerts_test.yml")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	for _, name := range alertNames(t) {
		require.Contains(t, string(page), "\n| `"+name+"` |")
		require.Equal(t, 2, strings.Count(string(text), "alertname: "+name+"\n"), "%s: when it is silent, and when it fires", name)
	}
}

// target is a query of the dashboard.
type target struct{ panel, query string }

// targets are the queries of the dashboard, as Grafana would send them.
func targets(t *testing.T) (found []target) {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	for _, p := range dashboard.Panels {
		if p.Type == "row" { // a heading
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, q := range p.Targets {
			found = append(found, target{p.Title, strings.NewReplacer("$hub", ".*", "$__rate_interval", "1m").Replace(q.Expr)})
		}
	}
	require.NotEmpty(t, found)
	return found
}

// A real Prometheus scrapes the example, and a cache beside it, has data for each query of the dashboard, and evaluates the rules.
func TestPrometheus(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: the example ends at a signal, which there is none of")
	}
	prometheus, promtool := program(t, "prometheus"), program(t, "promtool")
	page := startService(t, pgtest.Database(t))

	caches := serveCache(t)
	explained, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	for _, each := range []string{page, caches} {
		text := ours(get(t, each))
		lint := exec.Command(promtool, "check", "metrics")
		lint.Stdin = bytes.NewReader(text)
		out, err := lint.CombinedOutput()
		require.NoError(t, err, string(out))
		for _, match := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllSubmatch(text, -1) {
			require.Contains(t, string(explained), "`"+string(match[1])+"`")
		}
	}

	api := startPrometheus(t, prometheus, page, caches)
	for _, q := range targets(t) {
		await(t, q.panel+": "+q.query, func(t require.TestingT) bool { return hasData(t, api+"/api/v1/query?query="+url.QueryEscape(q.query)) })
	}

	var hubs struct{ Data []string }
	require.NoError(t, json.Unmarshal(get(t, api+"/api/v1/label/hub/values"), &hubs))
	require.Equal(t, []string{"shop"}, hubs.Data)

	alerts := len(alertNames(t))
	await(t, "all rules are evaluated", func(t require.TestingT) bool {
		var rules struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError string }
				}
			}
		}
		require.NoError(t, json.Unmarshal(get(t, api+"/api/v1/rules"), &rules))
		healthy := 0
		for _, g := range rules.Data.Groups {
			for _, r := range g.Rules {
				require.Empty(t, r.LastError, r.Name)
				if r.Health == "ok" {
					healthy++
				}
			}
		}
		return healthy == alerts
	})
}

// ours are the metrics of pghub: those of Go do not all follow the conventions.
func ours(text []byte) []byte {
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("pghub_")) {
			kept.Write(line)
		}
	}
	return kept.Bytes()
}

// startService runs the example, and returns the URL of its metrics. When the test has ended, so has the example, at an
// interrupt and without an error.
func startService(t *testing.T, dsn string) (page string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "service")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./examples/service").CombinedOutput()
	require.NoError(t, err, string(out))
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+dsn, "LISTEN=127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stderr = &log
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		scanner := bufio.NewScanner(stdout)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(pgtest.Patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the example: %v\n%s", err, &log)
		}
	})
	select {
	case page = <-lines:
	case <-read:
		require.FailNow(t, "the example has ended", log.String())
	case <-time.After(pgtest.Patience):
		require.FailNow(t, "the example says nothing")
	}
	return page
}

// startPrometheus has a Prometheus scrape pages twice a second, and returns where to ask it.
func startPrometheus(t *testing.T, program string, pages ...string) (api string) {
	t.Helper()
	var hosts []string
	for _, page := range pages {
		at, err := url.Parse(page)
		require.NoError(t, err)
		hosts = append(hosts, strconv.Quote(at.Host))
	}
	rules, err := filepath.Abs("alerts.yml")
	require.NoError(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: service, static_configs: [{targets: [%s]}]}]
`, rules, strings.Join(hosts, ", ")), 0o600))
	for range 10 { // another program may take the port
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		require.NoError(t, listener.Close())
		var log bytes.Buffer
		cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
		cmd.Stderr = &log
		require.NoError(t, cmd.Start())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait() // it is killed
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // or it has ended
			<-ended
		})
		if isReady(address, ended) {
			return "http://" + address
		}
		_ = cmd.Process.Kill()
		<-ended
		t.Log(log.String())
	}
	require.FailNow(t, "no Prometheus")
	return ""
}

// client leaves no connection behind.
var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: pgtest.Patience}

func isReady(address string, ended <-chan struct{}) bool {
	deadline := time.After(pgtest.Patience)
	for {
		if answer, err := client.Get("http://" + address + "/-/ready"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return true
			}
		}
		select {
		case <-ended:
			return false
		case <-deadline:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// await asks again and again, until an answer is what it should be.
func await(t *testing.T, what string, is func(t require.TestingT) bool) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { require.True(c, is(c)) }, pgtest.Patience, 100*time.Millisecond, what)
}

func get(t require.TestingT, url string) []byte {
	answer, err := client.Get(url)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", url, body)
	return body
}

// hasData asks Prometheus, and says whether there is a number in the answer.
func hasData(t require.TestingT, query string) (found bool) {
	body := get(t, query)
	var result struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	require.NoError(t, json.Unmarshal(body, &result))
	for _, r := range result.Data.Result {
		number, err := strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
		require.NoError(t, err)
		found = found || !math.IsNaN(number)
	}
	return found
}
