package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"time"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/stream"
)

// Config makes a [Gateway]. The zero value is valid and lets nobody listen to anything: say at least Topics. Of numbers
// and durations 0 is the default; a negative limit is none. HistoryEvents and durations are not negative.
type Config struct {
	// Topics that clients may listen to: glob patterns as of [path.Match], in which * stands for any characters, / too.
	// None: no topic at all.
	Topics []string

	// Publish turns POST /notify/{topic} on, for topics that match one of these patterns. None: the route is not there.
	Publish []string

	// Authorize is asked whether a request may do what it is about to do, after Topics or Publish have allowed it:
	// once for each topic, and for what has no topic (see [Action]). nil: everybody may.
	//
	// The error of [Refuse] is shown to the client. Any other is logged, and the client learns only that it is not
	// authorised. For a WebSocket on /ws the request is the one that opened it, whose context has ended by then.
	Authorize func(r *http.Request, a Access) error

	// Expires says until when what Authorize has allowed a client holds; the zero time: for as long as it is connected. Then
	// Authorize is asked again, about the same request and all that the client has, and a client that may not have it any
	// more is closed: a WebSocket with [CodeExpired], an event stream without an advisory. One that may is asked about again
	// at the next time that Expires says, if that is later. It is asked when a client is admitted. nil: never.
	Expires func(r *http.Request) time.Time

	// Origins of other sites that browsers may connect from: patterns of a host (app.example.com, *.example.com) or of
	// an origin (https://app.example.com); "*" is any. A request without Origin comes from no browser's page, and one
	// whose Origin is the request's own host is same-origin: both are allowed. None: no foreign origin.
	Origins []string

	// Hosts are the names by which the gateway may be asked for, without a port: patterns as app.example.com or *.example.com;
	// "*" is any. Without them a page can reach a gateway that only its visitor's machine or network can reach, under a name
	// of its own. None: any name, but of a request that came to a loopback address only localhost and loopback addresses.
	// /healthz and /readyz answer under any name.
	Hosts []string

	// AllowCredentials lets pages of Origins send cookies with fetch and EventSource. (With WebSockets browsers always
	// do.)
	AllowCredentials bool

	// TrustedProxies are the addresses of reverse proxies in front: of their requests the client's address is the last
	// one in X-Forwarded-For that is not one of them. None: X-Forwarded-For is ignored.
	TrustedProxies []netip.Prefix

	// Codec decodes payloads for the event format. nil: [pghub.KeyValueCodec]. Say here what the hub has, if it has
	// another one.
	Codec pghub.Codec

	// Stream, if there is one, lets clients have events again: those of its live topics carry their position, and who comes back
	// with it gets what it has missed, in its place. It is a stream of the same hub. Which of these topics clients may have is up to
	// Topics and Authorize. See README.md.
	Stream *stream.Stream

	// Notify publishes the events of POST /notify, but for those with format=payload. ctx is that of the request: here an event can be
	// given the trace that its request belongs to, see README.md. It runs on the request's goroutine, once publishing is allowed, for
	// PublishTimeout at most. Its errors are answered as those of the hub are, one of Refuse with its reason, and any other with 500
	// `internal` and a line in the log. nil: [pghub.Hub.Notify] of the hub.
	Notify func(ctx context.Context, topic string, key []int64, value any) error

	// HistoryEvents has this process remember so many events of all other topics together, for who comes back soon. A topic is
	// remembered from its first client on, and for HistoryLinger after its last. 0: none.
	HistoryEvents int

	// Logger gets a line for trouble, and at level Debug for every client that comes, goes or is refused. nil: silent.
	Logger *slog.Logger

	// AccessLog gets a line for every request, when it is over: no query, and so no token, is in it. nil: none.
	AccessLog *slog.Logger

	// Compress offers permessage-deflate to WebSockets, for messages of 512 bytes and more. Each message is compressed by itself, so
	// that an idle client costs no more memory, and again for each client, which costs time.
	Compress bool

	// NoViewer leaves out the page at /.
	NoViewer bool

	MaxClients           int // connected at once. 10,000
	MaxClientsPerAddress int // of these with one IPv4 address or one IPv6 /64 network. 100
	MaxTopics            int // of one client. 100
	MaxTopicsPerAddress  int // different topics of all clients of one address. 1,000
	MaxTopicsTotal       int // different topics of all clients. 10,000
	MaxMessage           int // bytes of a message, or body, from a client. 16 KiB
	MaxRate              int // frames a second from a client, of every kind, and ten times as many at once. 20
	MaxPending           int // bytes waiting for a client; more while its connection takes them. 1 MiB
	HistoryBytes         int // that are remembered, of HistoryEvents. 16 MiB
	MaxPendingTotal      int // bytes beyond MaxPending that wait for all clients together, at most an eighth for one. 256 MiB

	WriteTimeout     time.Duration // while something waits for a client: it has taken nothing for so long, see README.md. 15 s
	SlowTimeout      time.Duration // how long a client may lose events without catching up, or take none of more than MaxPending. 30 s
	PingInterval     time.Duration // between pings of a WebSocket. 30 s
	PingTimeout      time.Duration // until the answer. 15 s
	Heartbeat        time.Duration // between comments of a Server-Sent Events stream. 15 s
	Retry            time.Duration // after which EventSource comes back, give or take a quarter. 3 s
	SubscribeTimeout time.Duration // how long GET /listen waits for LISTEN while the database is away. 10 s
	PublishTimeout   time.Duration // how long POST /notify waits for the commit. 10 s
	ReadTimeout      time.Duration // until the body of a request is there. 10 s
	HistoryLinger    time.Duration // for how long a topic without clients is remembered. 5 min
}

const unlimited = int(^uint(0) >> 1)

func (cfg Config) withDefaults() (Config, error) {
	for _, p := range append(append([]string{}, cfg.Topics...), cfg.Publish...) {
		if !validPattern(p) {
			return cfg, fmt.Errorf("gateway: %q is not a pattern of topics: %w", p, path.ErrBadPattern)
		}
	}
	if err := checkOrigins(cfg.Origins, cfg.AllowCredentials); err != nil {
		return cfg, err
	}
	if err := checkHosts(cfg.Hosts); err != nil {
		return cfg, err
	}
	switch {
	case cfg.Stream != nil && len(cfg.Stream.LiveTopics()) == 0:
		return cfg, errors.New("gateway: Config.Stream has no live topics: they are named in the Live of stream.Config")
	case cfg.HistoryEvents < 0:
		return cfg, errors.New("gateway: Config.HistoryEvents has a limit: say how many")
	}
	for _, n := range []struct {
		value *int
		zero  int
	}{
		{&cfg.MaxClients, 10_000},
		{&cfg.MaxClientsPerAddress, 100},
		{&cfg.MaxTopics, 100},
		{&cfg.MaxTopicsPerAddress, 1000},
		{&cfg.MaxTopicsTotal, 10_000},
		{&cfg.MaxMessage, 16 << 10},
		{&cfg.MaxRate, 20},
		{&cfg.MaxPending, 1 << 20},
		{&cfg.MaxPendingTotal, 256 << 20},
		{&cfg.HistoryBytes, 16 << 20},
	} {
		switch {
		case *n.value == 0:
			*n.value = n.zero
		case *n.value < 0:
			*n.value = unlimited
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"WriteTimeout", &cfg.WriteTimeout, 15 * time.Second},
		{"SlowTimeout", &cfg.SlowTimeout, 30 * time.Second},
		{"PingInterval", &cfg.PingInterval, 30 * time.Second},
		{"PingTimeout", &cfg.PingTimeout, 15 * time.Second},
		{"Heartbeat", &cfg.Heartbeat, 15 * time.Second},
		{"Retry", &cfg.Retry, 3 * time.Second},
		{"SubscribeTimeout", &cfg.SubscribeTimeout, 10 * time.Second},
		{"PublishTimeout", &cfg.PublishTimeout, 10 * time.Second},
		{"ReadTimeout", &cfg.ReadTimeout, 10 * time.Second},
		{"HistoryLinger", &cfg.HistoryLinger, 5 * time.Minute},
	} {
		if *d.value < 0 {
			return cfg, fmt.Errorf("gateway: Config.%s is %v: a duration is not negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if cfg.Codec == nil {
		cfg.Codec = pghub.KeyValueCodec{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}
