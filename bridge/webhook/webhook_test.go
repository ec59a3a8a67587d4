package webhook_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/bridge"
	"github.com/pghub/pghub/bridge/webhook"
	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The example of the specification of Standard Webhooks.
const (
	secret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_c2VjcmV0IHRoYXQgaXMgbG9uZyBlbm91Z2g="
)

// got is a request that the receiver has got.
type got struct {
	method, path string
	header       http.Header
	body         string
}

// receiver is a server that takes webhooks. answer, if set, answers.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []got
	answer func(n int, w http.ResponseWriter, body string) // n counts from 1
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	pgtest.CheckLeaks(t)
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.got = append(r.got, got{request.Method, request.URL.RequestURI(), request.Header.Clone(), string(body)})
		n, answer := len(r.got), r.answer
		r.mu.Unlock()
		if answer != nil {
			answer(n, w, string(body))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) all() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.got...)
}

func newSink(t *testing.T, cfg webhook.Config) *webhook.Sink {
	t.Helper()
	s, err := webhook.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func messages(bodies ...string) (list []*bridge.Message) {
	for i, body := range bodies {
		list = append(list, &bridge.Message{ID: "1700000000000.7." + string(rune('1'+i)), Body: []byte(body), ContentType: "application/json"})
	}
	return list
}

// A message is a request with its body byte for byte, signed with each of the secrets, under the message's ID.
func TestAMessageIsASignedRequest(t *testing.T) {
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL + "/hooks", Secrets: []string{secret, newSecret}, Header: http.Header{"authorization": {"Bearer x"}}})
	m := messages(`{"a":"é\u0000 <>&"}`)[0]
	m.Headers = map[string]string{"traceparent": "00-1", "webhook-id": "forged", "Webhook-Signature": "forged", "host": "forged", "authorization": "mine"}
	m.Attributes = map[string]string{"id": "7", "subject": `10% "é"`}
	require.NoError(t, s.Send(t.Context(), []*bridge.Message{m}))
	require.Len(t, r.all(), 1)
	g := r.all()[0]
	require.Equal(t, []string{"POST", "/hooks", `{"a":"é\u0000 <>&"}`}, []string{g.method, g.path, g.body})
	require.Equal(t, "application/json", g.header.Get("Content-Type"))
	require.Equal(t, "00-1", g.header.Get("traceparent"))
	require.Equal(t, "Bearer x", g.header.Get("Authorization"), "the configured one wins")
	require.Equal(t, []string{"7", "10%25%20%22%C3%A9%22"}, []string{g.header.Get("ce-id"), g.header.Get("ce-subject")})
	for _, one := range []string{secret, newSecret, strings.TrimPrefix(secret, "whsec_")} {
		id, err := webhook.Verify(g.header, []byte(g.body), 0, one)
		require.NoError(t, err)
		require.Equal(t, m.ID, id)
	}
	_, err := webhook.Verify(g.header, []byte(g.body), 0, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)))
	require.ErrorIs(t, err, webhook.ErrSignature)
	_, err = webhook.Verify(g.header, []byte(g.body+" "), 0, secret)
	require.ErrorIs(t, err, webhook.ErrSignature)
	other := g.header.Clone()
	other.Set("webhook-id", "1")
	_, err = webhook.Verify(other, []byte(g.body), 0, secret)
	require.ErrorIs(t, err, webhook.ErrSignature)
	old := g.header.Clone()
	old.Set("webhook-timestamp", "1614265330")
	_, err = webhook.Verify(old, []byte(g.body), 0, secret)
	require.ErrorIs(t, err, webhook.ErrTimestamp)
}

// The signature is that of the specification's example, so that receivers with another library take it.
func TestTheSignatureIsThatOfTheSpecification(t *testing.T) {
	header := http.Header{}
	header.Set("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	header.Set("webhook-timestamp", "1614265330")
	header.Set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
	_, err := webhook.Verify(header, []byte(`{"test": 2432232314}`), 100*365*24*time.Hour, secret)
	require.NoError(t, err)
}

// What an answer means: taken, failed, or refused for good; and behind a failure nothing is sent.
func TestWhatAnAnswerMeans(t *testing.T) {
	for _, c := range []struct {
		status  int
		retry   []int
		taken   bool
		refused bool
	}{
		{200, nil, true, false},
		{202, nil, true, false},
		{204, nil, true, false},
		{302, nil, false, false},
		{400, nil, false, true},
		{404, nil, false, true},
		{404, []int{404}, false, false},
		{408, nil, false, false},
		{410, nil, false, true},
		{413, nil, false, true},
		{425, nil, false, false},
		{429, nil, false, false},
		{500, nil, false, false},
		{503, nil, false, false},
	} {
		r := newReceiver(t)
		r.answer = func(n int, w http.ResponseWriter, _ string) {
			if n == 2 {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, "said so")
			}
		}
		s := newSink(t, webhook.Config{URL: r.URL, RetryStatus: c.retry})
		err := s.Send(t.Context(), messages("1", "2", "3"))
		if c.taken {
			require.NoError(t, err, c.status)
			require.Len(t, r.all(), 3)
			continue
		}
		var each bridge.Errors
		require.ErrorAs(t, err, &each, c.status)
		require.NoError(t, each[0])
		require.Equal(t, c.refused, bridge.IsRefused(each[1]), c.status)
		require.ErrorContains(t, each[1], http.StatusText(c.status))
		if c.refused {
			require.NoError(t, each[2], "a refused one holds up nothing")
			require.Len(t, r.all(), 3)
		} else {
			require.ErrorIs(t, each[2], bridge.ErrNotSent, "order is kept")
			require.Len(t, r.all(), 2)
		}
		if c.status != 204 {
			require.ErrorContains(t, each[1], "said so")
		}
	}
}

// A batch is one request, with a JSON array; of CloudEvents with a content type of its own.
func TestABatchIsOneRequest(t *testing.T) {
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL, Batch: true, Method: http.MethodPut, Secrets: []string{secret}})
	list := messages(`{"a":1}`, `2`)
	require.NoError(t, s.Send(t.Context(), list))
	list[0].ContentType, list[1].ContentType = "application/cloudevents+json", "application/cloudevents+json"
	require.NoError(t, s.Send(t.Context(), list))
	all := r.all()
	require.Len(t, all, 2)
	require.Equal(t, []string{"PUT", `[{"a":1},2]`, "application/json"}, []string{all[0].method, all[0].body, all[0].header.Get("Content-Type")})
	require.Equal(t, "application/cloudevents-batch+json", all[1].header.Get("Content-Type"))
	id, err := webhook.Verify(all[0].header, []byte(all[0].body), 0, secret)
	require.NoError(t, err)
	require.Equal(t, "1700000000000.7.1_1700000000000.7.2", id)
}

// Messages with different targets go in requests of their own, in order.
func TestABatchHasOneTarget(t *testing.T) {
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL + "/hooks/", Batch: true})
	list := messages("1", "2", "3")
	list[0].Target, list[1].Target, list[2].Target = "a", "a", "/b?c=d"
	var each bridge.Errors
	require.ErrorAs(t, s.Send(t.Context(), list), &each)
	require.NoError(t, each[0])
	require.NoError(t, each[1])
	require.ErrorIs(t, each[2], bridge.ErrNotSent)
	require.NoError(t, s.Send(t.Context(), list[2:]))
	all := r.all()
	require.Equal(t, []string{"/hooks/a", "[1,2]", "/b?c=d", "[3]"}, []string{all[0].path, all[0].body, all[1].path, all[1].body})
}

// A batch that is refused is no verdict on each of its messages.
func TestABatchThatIsRefusedIsTriedInParts(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(_ int, w http.ResponseWriter, body string) {
		if strings.Contains(body, "2") {
			w.WriteHeader(http.StatusBadRequest)
		}
	}
	s := newSink(t, webhook.Config{URL: r.URL, Batch: true})
	err := s.Send(t.Context(), messages("1", "2"))
	require.Error(t, err)
	require.False(t, bridge.IsRefused(err))
	require.NoError(t, s.Send(t.Context(), messages("1")))
	require.True(t, bridge.IsRefused(s.Send(t.Context(), messages("2"))))
	err = s.Send(t.Context(), messages("1", "no JSON"))
	var each bridge.Errors
	require.ErrorAs(t, err, &each)
	require.ErrorIs(t, each[0], bridge.ErrNotSent)
	require.True(t, bridge.IsRefused(each[1]))
}

// A redirect is not followed: the signature goes to nobody else.
func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := newReceiver(t)
	r := newReceiver(t)
	r.answer = func(_ int, w http.ResponseWriter, _ string) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	followers := &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	t.Cleanup(followers.CloseIdleConnections)
	for _, client := range []*http.Client{nil, followers} {
		s := newSink(t, webhook.Config{URL: r.URL, Secrets: []string{secret}, Client: client})
		require.ErrorContains(t, s.Send(t.Context(), messages("1")), "307")
	}
	require.Empty(t, elsewhere.all())
}

// A target cannot lead to another host.
func TestATargetStaysWithTheHost(t *testing.T) {
	elsewhere := newReceiver(t)
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL})
	for _, target := range []string{elsewhere.URL, strings.TrimPrefix(elsewhere.URL, "http:"), "https://" + strings.TrimPrefix(r.URL, "http://"), "ftp:x", ":%zz"} {
		m := messages("1")
		m[0].Target = target
		require.True(t, bridge.IsRefused(s.Send(t.Context(), m)), target)
	}
	require.Empty(t, elsewhere.all())
	require.Empty(t, r.all())
}

// A receiver that does not answer is a failure after Timeout; so is one that is not there. No error shows what is secret.
func TestErrorsShowNoSecrets(t *testing.T) {
	r := newReceiver(t)
	release := make(chan struct{})
	r.answer = func(int, http.ResponseWriter, string) { <-release }
	defer close(release)
	secretive := strings.Replace(r.URL, "http://", "http://user:hunter2@", 1) + "/services/T0K3N"
	s := newSink(t, webhook.Config{URL: secretive, Timeout: 50 * time.Millisecond, Secrets: []string{secret}})
	err := s.Send(t.Context(), messages("1"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, bridge.IsRefused(err))
	gone := newSink(t, webhook.Config{URL: "http://user:hunter2@127.0.0.1:1/services/T0K3N", Secrets: []string{secret}})
	errGone := gone.Send(t.Context(), messages("1"))
	require.Error(t, errGone)
	_, errURL := webhook.New(webhook.Config{URL: "smtp://user:hunter2@host/T0K3N"})
	_, errSecret := webhook.New(webhook.Config{URL: r.URL, Secrets: []string{"whsec_hunter2!"}})
	for _, err := range []error{err, errGone, errURL, errSecret} {
		require.Error(t, err)
		for _, hidden := range []string{"hunter2", "T0K3N", strings.TrimPrefix(secret, "whsec_")} {
			require.NotContains(t, err.Error(), hidden)
		}
	}
}

// A header that HTTP does not take is refused, and not tried for ever.
func TestAHeaderThatIsNone(t *testing.T) {
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL})
	for name, text := range map[string]string{"a b": "x", "": "x", "a": "x\r\nb: y", "é": "x"} {
		m := messages("1")
		m[0].Headers = map[string]string{name: text}
		require.True(t, bridge.IsRefused(s.Send(t.Context(), m)), "%q", name)
	}
	require.Empty(t, r.all())
}

// After Close nothing is sent.
func TestASinkThatIsClosed(t *testing.T) {
	r := newReceiver(t)
	s := newSink(t, webhook.Config{URL: r.URL})
	require.NoError(t, s.Check(t.Context(), nil))
	require.NoError(t, s.Close(t.Context()))
	require.ErrorIs(t, s.Send(t.Context(), messages("1")), bridge.ErrClosed)
}

// Wrong configurations are named.
func TestWrongConfigurations(t *testing.T) {
	for want, cfg := range map[string]webhook.Config{
		"URL":         {},
		"http":        {URL: "example.com/x"},
		"Method":      {URL: "http://h", Method: "GET"},
		"Timeout":     {URL: "http://h", Timeout: -1},
		"base64":      {URL: "http://h", Secrets: []string{"!"}},
		"at least 16": {URL: "http://h", Secrets: []string{"whsec_YQ=="}},
	} {
		_, err := webhook.New(cfg)
		require.ErrorContains(t, err, want)
	}
}
