package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pghub/pghub/bridge"
)

// Config makes a [Sink]. URL must be set.
type Config struct {
	// URL is where messages go, by http or https. A message's target, if it has one, is taken relative to it: "orders/7" or "?kind=order".
	URL string

	// Method is POST or PUT. "": POST.
	Method string

	// Batch sends the messages of a batch in one request, as a JSON array.
	Batch bool

	// Secrets sign each request, one signature each: base64, with whsec_ in front or without. Two of them let receivers go from an
	// old one to a new one. None: requests are not signed.
	Secrets []string

	// Header is for each request, such as Authorization. It wins over the headers of messages.
	Header http.Header

	// RetryStatus are answers that are failures and tried again, though they are 4xx: such as 404 for a receiver that is deployed
	// now and then.
	RetryStatus []int

	// Timeout of one request, with its answer. 0: 10 s.
	Timeout time.Duration

	// Client sends the requests: for its Transport, with certificates or a proxy. It is not changed; redirects are not followed,
	// whatever it says. nil: one of the sink's own.
	Client *http.Client
}

const (
	defaultTimeout = 10 * time.Second
	idleTimeout    = 90 * time.Second
	connections    = 64       // to one host, that wait for another request
	maxAnswer      = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
	maxReason      = 200      // of these, in an error
)

// Sink sends messages by HTTP. All methods may be called from several goroutines at once.
type Sink struct {
	cfg    Config
	base   *url.URL
	keys   [][]byte
	client *http.Client
	own    *http.Transport // nil: the user's
	closed atomic.Bool
}

// New makes a sink. It connects to nothing. The error says what is wrong with the configuration.
func New(cfg Config) (*Sink, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, errors.New("webhook: Config.URL is no URL of http or https") // not which: it may have a password
	}
	if cfg.Method == "" {
		cfg.Method = http.MethodPost
	}
	if cfg.Method != http.MethodPost && cfg.Method != http.MethodPut {
		return nil, fmt.Errorf("webhook: Config.Method is %q; POST or PUT", cfg.Method)
	}
	if cfg.Timeout < 0 {
		return nil, fmt.Errorf("webhook: Config.Timeout is %v", cfg.Timeout)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	s := &Sink{cfg: cfg, base: base}
	for _, secret := range cfg.Secrets {
		k, err := key(secret)
		if err != nil {
			return nil, fmt.Errorf("webhook: Config.Secrets: %w", err)
		}
		s.keys = append(s.keys, k)
	}
	if cfg.Client != nil {
		copied := *cfg.Client
		s.client = &copied
	} else {
		s.own = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: connections,
			IdleConnTimeout: idleTimeout, TLSHandshakeTimeout: cfg.Timeout,
		}
		s.client = &http.Client{Transport: s.own}
	}
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, nil
}

// TakesGaps says that gaps are sent as messages of their own: their topic is pghub.gap.
func (s *Sink) TakesGaps() bool { return true }

// MaxBatch is one, unless requests have batches: each message is acknowledged towards the source when the receiver has taken it.
func (s *Sink) MaxBatch() int {
	if s.cfg.Batch {
		return 0
	}
	return 1
}

// Check connects to the host and asks for nothing but its methods, by OPTIONS: any answer will do.
func (s *Sink) Check(ctx context.Context, _ []string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodOptions, s.base.String(), nil)
	if err != nil {
		return s.clean(err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return s.clean(err)
	}
	return answer.Body.Close()
}

// Send sends messages: see [bridge.Sink].
func (s *Sink) Send(ctx context.Context, batch []*bridge.Message) error {
	if s.closed.Load() {
		return bridge.ErrClosed
	}
	if s.cfg.Batch {
		return s.sendTogether(ctx, batch)
	}
	results := make(bridge.Errors, len(batch))
	for i, m := range batch {
		results[i] = s.sendOne(ctx, m)
		if results[i] != nil && !bridge.IsRefused(results[i]) {
			for rest := i + 1; rest < len(batch); rest++ {
				results[rest] = bridge.ErrNotSent
			}
			return results
		}
	}
	return results.OrNil()
}

func (s *Sink) sendOne(ctx context.Context, m *bridge.Message) error {
	header := make(http.Header, len(m.Headers)+len(m.Attributes)+8)
	for name, text := range m.Headers {
		if err := set(header, name, text); err != nil {
			return err
		}
	}
	for name, text := range m.Attributes {
		header.Set("ce-"+name, percent(text))
	}
	return s.request(ctx, m.Target, m.ID, m.ContentType, header, m.Body)
}

// sendTogether sends a batch as one request. All of its messages must have one target.
func (s *Sink) sendTogether(ctx context.Context, batch []*bridge.Message) error {
	contentType := "application/json"
	var body bytes.Buffer
	for i, m := range batch {
		if m.Target != batch[0].Target { // those before go first
			return s.firstOf(ctx, batch, i)
		}
		if strings.HasPrefix(m.ContentType, "application/cloudevents+json") {
			contentType = "application/cloudevents-batch+json"
		}
		if !json.Valid(m.Body) {
			results := make(bridge.Errors, len(batch))
			for j := range results {
				results[j] = bridge.ErrNotSent
			}
			results[i] = bridge.Refuse(errors.New("webhook: the body is not JSON, as it has to be in a batch"))
			return results
		}
		body.WriteByte("[,"[min(i, 1)])
		body.Write(m.Body)
	}
	body.WriteByte(']')
	id := batch[0].ID
	if n := len(batch); n > 1 {
		id += "_" + batch[n-1].ID
	}
	err := s.request(ctx, batch[0].Target, id, contentType, make(http.Header, 8), body.Bytes())
	if bridge.IsRefused(err) && len(batch) > 1 {
		return bridge.RetryAfter(0, fmt.Errorf("%d messages together: %s", len(batch), err.Error())) // which one it is, smaller batches will tell
	}
	return err
}

// firstOf sends the first n messages of a batch.
func (s *Sink) firstOf(ctx context.Context, batch []*bridge.Message, n int) error {
	results := make(bridge.Errors, len(batch))
	for i := n; i < len(batch); i++ {
		results[i] = bridge.ErrNotSent // yet
	}
	err := s.sendTogether(ctx, batch[:n])
	var each bridge.Errors
	switch {
	case errors.As(err, &each):
		copy(results, each)
	case err != nil:
		for i := range n {
			results[i] = err
		}
	}
	return results
}

// request sends a body, and says what the answer means.
func (s *Sink) request(ctx context.Context, target, id, contentType string, header http.Header, body []byte) error {
	where, err := s.where(target)
	if err != nil {
		return bridge.Refuse(err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, s.cfg.Method, where.String(), bytes.NewReader(body))
	if err != nil {
		return bridge.Refuse(s.clean(err))
	}
	request.Header = header
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	for name, texts := range s.cfg.Header {
		header[http.CanonicalHeaderKey(name)] = texts
	}
	if host := header.Get("Host"); host != "" {
		request.Host = host
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	header.Set(headerID, id)
	header.Set(headerTimestamp, timestamp)
	header.Del(headerSignature)
	if len(s.keys) > 0 {
		signatures := make([]string, len(s.keys))
		for i, k := range s.keys {
			signatures[i] = sign(k, id, timestamp, body)
		}
		header.Set(headerSignature, strings.Join(signatures, " "))
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return s.clean(err)
	}
	defer func() { _ = answer.Body.Close() }()
	return s.judge(answer)
}

// where resolves a message's target. It stays with the host of the URL.
func (s *Sink) where(target string) (*url.URL, error) {
	if target == "" {
		return s.base, nil
	}
	where, err := s.base.Parse(target)
	if err != nil {
		return nil, errors.New("webhook: the target is no URL, nor a part of one")
	}
	if where.Scheme != s.base.Scheme || where.Host != s.base.Host {
		return nil, errors.New("webhook: the target is of another host than the URL of the sink")
	}
	where.User = s.base.User
	return where, nil
}

// judge says what an answer means.
func (s *Sink) judge(answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	code := answer.StatusCode
	if code >= 200 && code < 300 {
		return nil
	}
	err := fmt.Errorf("webhook: %s answers %d %s%s", s.base.Host, code, http.StatusText(code), excerpt(text))
	switch {
	case slices.Contains(s.cfg.RetryStatus, code), code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
	case code >= 400 && code < 500:
		return bridge.Refuse(err)
	}
	if wait, said := retryAfter(answer.Header.Get("Retry-After"), time.Now()); said {
		return bridge.RetryAfter(wait, err)
	}
	return err
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(date.Sub(now), 0), true
	}
	return 0, false
}

// excerpt is what an answer says, for an error.
func excerpt(text []byte) string {
	short := strings.Join(strings.Fields(strings.ToValidUTF8(string(text[:min(len(text), maxReason)]), "")), " ")
	if short == "" {
		return ""
	}
	return ": " + strconv.Quote(short)
}

// clean takes the URL out of an error, which may have a password or a token in it.
func (s *Sink) clean(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("webhook: %s: %w", s.base.Host, err)
}

// Close gives up connections that wait for a request.
func (s *Sink) Close(context.Context) error {
	s.closed.Store(true)
	if s.own != nil {
		s.own.CloseIdleConnections()
	}
	return nil
}
