package pghub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/pgtest"
)

type parcel struct {
	Item  string `json:"item"`
	Count int64  `json:"count"`
}

var parcels = TopicOf[parcel]("parcels")

// diary collects lines from several callbacks.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.lines...)
}

func (d *diary) parcel(_ context.Context, key []int64, p parcel) error {
	d.note("%v %+v", key, p)
	return nil
}

// What is published as a T arrives as a T, with all its digits, also out of a transaction.
func TestTopicRoundTrip(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.Database(t))
	hub := realHub(t, Config{Pool: pool})
	startHub(t, hub)
	var d diary
	_, err := parcels.Consumer(within(t), hub, d.parcel, nil)
	require.NoError(t, err)
	require.Equal(t, "parcels", parcels.Name())

	require.NoError(t, parcels.Notify(within(t), hub, []int64{7}, parcel{"é", 9223372036854775807}))
	require.NoError(t, pgx.BeginFunc(within(t), pool, func(tx pgx.Tx) error {
		return parcels.NotifyTx(within(t), hub, tx, []int64{8, 9}, parcel{"pen", 2})
	}))
	require.NoError(t, hub.Notify(within(t), "parcels", nil, nil))
	require.NoError(t, hub.Stop(within(t)))
	require.Equal(t, []string{"[7] {Item:é Count:9223372036854775807}", "[8 9] {Item:pen Count:2}", "[] {Item: Count:0}"}, d.all())
}

// badParcels are refused by the codec, by JSON and by the type.
var badParcels = []string{"x", `e1:{"item":`, `e2:"text"`, `e3:{"count":1.5}`}

func TestTopicUndecodableGoesToOnError(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		var d diary
		_, err := parcels.Consumer(within(t), hub, d.parcel, &TopicConfig{ConsumerConfig: ConsumerConfig{Name: "shop"}})
		require.NoError(t, err)
		startHub(t, hub)
		for _, payload := range badParcels {
			server.Notify("parcels", payload)
		}
		server.Notify("parcels", `e4:{"item":"pen"}`)
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{"[4] {Item:pen Count:0}"}, d.all())
		require.Len(t, errs.all(), len(badParcels))
		for i, payload := range badParcels {
			var undecodable *DecodeError
			require.ErrorAs(t, errs.all()[i], &undecodable)
			require.Equal(t, "parcels", undecodable.Topic)
			require.Equal(t, payload, string(undecodable.Payload))
		}
	})
}

// Undecodable gets every such event, in its place, whoever refused it; Advisory gets the supervisory ones.
func TestTopicCallbacksKeepTheOrder(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		var d diary
		c, err := parcels.Consumer(within(t), hub, d.parcel, &TopicConfig{
			ConsumerConfig: ConsumerConfig{
				Name:        "shop",
				ResyncFirst: true,
				Resync: func(context.Context, Gap) error {
					d.note("resync")
					return nil
				},
			},
			Advisory: func(_ context.Context, a *Advisory) { d.note("%s", a.Action) },
			Undecodable: func(ctx context.Context, ev *Event, err error) {
				var undecodable *DecodeError
				require.ErrorAs(t, err, &undecodable)
				require.Equal(t, ev.Payload, undecodable.Payload)
				require.EqualValues(t, fakepg.NotifierPID, ev.PID)
				require.NotNil(t, ConsumerFrom(ctx))
				d.note("undecodable %s %v", ev.Payload, ev.Key)
			},
		})
		require.NoError(t, err)
		require.Equal(t, "shop", c.Name())
		require.Equal(t, []string{"parcels"}, c.Topics())
		startHub(t, hub)
		server.Notify("parcels", `e0:{"count":1}`)
		for i, payload := range badParcels {
			server.Notify("parcels", payload)
			server.Notify("parcels", fmt.Sprintf(`e%d:{"count":1}`, 10*i))
		}
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{
			"connect", "subscribe", "resync", "[0] {Item: Count:1}",
			"undecodable x []", "[0] {Item: Count:1}",
			`undecodable e1:{"item": [1]`, "[10] {Item: Count:1}",
			`undecodable e2:"text" [2]`, "[20] {Item: Count:1}",
			`undecodable e3:{"count":1.5} [3]`, "[30] {Item: Count:1}",
			"stop",
		}, d.all())
		require.Empty(t, errs.all())
	})
}

// The payload by which a publisher announces a gap is not taken for a value: Resync is told of the gap, or else whoever is told of
// what cannot be decoded.
func TestTopicAnnouncedGapIsNoValue(t *testing.T) {
	for name, change := range map[string]func(*TopicConfig, *diary){
		"Resync": func(cfg *TopicConfig, d *diary) {
			cfg.Resync = func(_ context.Context, gap Gap) error { d.note("resync %v", gap.Err); return nil }
		},
		"Undecodable": func(cfg *TopicConfig, d *diary) {
			cfg.Undecodable = func(_ context.Context, _ *Event, err error) { d.note("undecodable %v", errors.Is(err, ErrMuted)) }
		},
		"both": func(cfg *TopicConfig, d *diary) {
			cfg.Resync = func(_ context.Context, gap Gap) error { d.note("resync %v", gap.Err); return nil }
			cfg.Undecodable = func(context.Context, *Event, error) { d.note("undecodable") }
		},
		"neither": func(*TopicConfig, *diary) {},
	} {
		t.Run(name, func(t *testing.T) {
			onFake(t, func(t *testing.T, server *fakepg.Server) {
				errs := newErrorLog()
				hub := fakeHub(t, server, Config{OnError: errs.onError})
				var d diary
				cfg := &TopicConfig{}
				change(cfg, &d)
				_, err := parcels.Consumer(within(t), hub, d.parcel, cfg)
				require.NoError(t, err)
				startHub(t, hub)
				server.Notify("parcels", gapMark+"}")
				server.Notify("parcels", "e4")
				require.NoError(t, hub.Stop(within(t)))
				told := map[string][]string{
					"Resync": {"resync " + ErrMuted.Error()}, "both": {"resync " + ErrMuted.Error()}, "Undecodable": {"undecodable true"},
				}[name]
				require.Equal(t, append(told, "[4] {Item: Count:0}"), d.all())
				if name == "neither" {
					require.Len(t, errs.all(), 1)
					require.ErrorIs(t, errs.all()[0], ErrMuted)
				} else {
					require.Empty(t, errs.all())
				}
			})
		})
	}
}

// Two consumers that ask the codec by themselves do not write into each other's events.
func TestTopicEventsAreNotShared(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		hub := fakeHub(t, server, Config{})
		raw, _ := rawWatch(t, hub, "parcels")
		var first, second diary
		for _, d := range []*diary{&first, &second} {
			_, err := parcels.Consumer(within(t), hub, d.parcel, &TopicConfig{Undecodable: func(context.Context, *Event, error) {}})
			require.NoError(t, err)
		}
		startHub(t, hub)
		server.Notify("parcels", `e1,2,3:{"count":4}`)
		raw.expect(t, lineConnect, lineSubscribe("parcels"))
		ev := raw.take(t)
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []string{"[1 2 3] {Item: Count:4}"}, first.all())
		require.Equal(t, first.all(), second.all())
		require.Nil(t, ev.Key)
		require.Nil(t, ev.Value)
	})
}

func rawWatch(t *testing.T, hub *Hub, topic string) (*witness, *Consumer) {
	t.Helper()
	w := newWitness()
	c, err := hub.Consumer(context.Background(), w.handle, &ConsumerConfig{Topics: []string{topic}, Codec: RawCodec{}})
	require.NoError(t, err)
	return w, c
}

// An error of the handler is reported by name, and the next event comes.
func TestTopicHandlerErrors(t *testing.T) {
	onFake(t, func(t *testing.T, server *fakepg.Server) {
		errs := newErrorLog()
		hub := fakeHub(t, server, Config{OnError: errs.onError})
		sold := errors.New("sold out")
		var seen []int64
		_, err := parcels.Consumer(within(t), hub, func(_ context.Context, key []int64, _ parcel) error {
			seen = append(seen, key...)
			if key[0] == 1 {
				return sold
			}
			return nil
		}, &TopicConfig{ConsumerConfig: ConsumerConfig{Name: "shop"}})
		require.NoError(t, err)
		startHub(t, hub)
		server.Notify("parcels", "e1:{}")
		server.Notify("parcels", "e2:{}")
		require.NoError(t, hub.Stop(within(t)))
		require.Equal(t, []int64{1, 2}, seen)
		require.Len(t, errs.all(), 1)
		require.ErrorIs(t, errs.all()[0], sold)
		require.ErrorContains(t, errs.all()[0], `consumer "shop"`)
		require.ErrorContains(t, errs.all()[0], `topic "parcels" with key [1]`)
	})
}

func TestTopicNamesWhatIsWrong(t *testing.T) {
	hub := unitHub(t, Config{})
	_, err := parcels.Consumer(within(t), hub, nil, nil)
	require.ErrorContains(t, err, "the handler is nil")
	var d diary
	_, err = parcels.Consumer(within(t), hub, d.parcel, &TopicConfig{ConsumerConfig: ConsumerConfig{Topics: []string{"a"}}})
	require.ErrorContains(t, err, "Topics must be empty")
	_, err = TopicOf[parcel]("").Consumer(within(t), hub, d.parcel, nil)
	require.ErrorIs(t, err, ErrTopic)
	require.ErrorIs(t, TopicOf[parcel]("").NotifyTx(within(t), hub, stubTx{}, nil, parcel{}), ErrTopic)
	require.ErrorIs(t, parcels.Notify(within(t), hub, nil, parcel{}), ErrNotStarted)
}

// What could not be decoded has its place in the stream all the same.
func TestTopicUndecodableKeepsTheRecord(t *testing.T) {
	hub := unitHub(t, Config{})
	var got []*Event
	d := &topicDelivery[int]{hub: hub, codec: KeyValueCodec{}, cfg: TopicConfig{Undecodable: func(_ context.Context, ev *Event, _ error) { got = append(got, ev) }}}
	record := &Record{Position: Position{Tick: 1, Txn: 2, ID: 3}, Attempt: 4}
	for _, payload := range badParcels {
		d.handle(t.Context(), &Event{Topic: "parcels", Payload: []byte(payload), PID: 5, Record: record})
	}
	require.Len(t, got, len(badParcels))
	for i, ev := range got {
		require.Equal(t, badParcels[i], string(ev.Payload))
		require.Equal(t, "parcels", ev.Topic)
		require.EqualValues(t, 5, ev.PID)
		require.Same(t, record, ev.Record)
	}
}
