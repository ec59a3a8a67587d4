package pghub

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pghub/pghub/internal/fakepg"
	"github.com/pghub/pghub/internal/source"
)

// The benchmarks of one component each. Run them with -count 10 and compare with benchstat. Everything together,
// beside its peers, is measured by the benchmarks module.

// benchPayload is a payload of the wire format with so many bytes.
func benchPayload(size, number int) []byte {
	head := "e" + strconv.Itoa(number) + `:"`
	return []byte(head + strings.Repeat("x", size-len(head)-1) + `"`)
}

func benchBurst(topic string, size, n int) []source.Message {
	burst := make([]source.Message, n)
	for i := range burst {
		burst[i] = source.Message{Topic: []byte(topic), Payload: benchPayload(size, i), PID: 1}
	}
	return burst
}

var benchSizes = []int{64, 512, 7000}

func BenchmarkDecode(b *testing.B) {
	for _, size := range benchSizes {
		for _, strict := range []bool{false, true} {
			b.Run(fmt.Sprintf("size=%d/strict=%t", size, strict), func(b *testing.B) {
				n := []source.Message{{Payload: benchPayload(size, 12345)}}
				codec := KeyValueCodec{Strict: strict}
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := codec.Decode(newEvents("topic", n)[0]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	type order struct {
		ID     int64   `json:"id"`
		Name   string  `json:"name"`
		Amount float64 `json:"amount"`
	}
	for _, test := range []struct {
		name  string
		value any
	}{{"nil", nil}, {"string", strings.Repeat("x", 40)}, {"struct", order{1, "name", 1.5}}} {
		b.Run("value="+test.name, func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = (KeyValueCodec{}).Append(buf[:0], []int64{12345}, test.value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchHub is a hub that listens to a scripted server, with a consumer that counts.
func benchHub(b *testing.B, topics ...string) (r *router, handled *atomic.Int64) {
	b.Helper()
	server := fakepg.New()
	b.Cleanup(server.Close)
	hub, err := New(Config{ListenConfig: server.Config()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = hub.Stop(context.Background()) })
	handled = new(atomic.Int64)
	_, err = hub.Consumer(context.Background(), func(_ context.Context, ev *Event) {
		if ev.Advisory == nil {
			handled.Add(1)
		}
	}, &ConsumerConfig{Topics: topics})
	if err != nil {
		b.Fatal(err)
	}
	if err := hub.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return hub.router, handled
}

// benchRoute routes a burst, as one read of the socket brings it, again and again. The queue never overflows.
func benchRoute(b *testing.B, r *router, handled *atomic.Int64, burst []source.Message) {
	routed := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		r.route(burst, false, false)
		routed += int64(len(burst))
		waitFor(handled, routed-defaultQueueSize/2)
	}
	waitFor(handled, routed)
	perEvent(b, routed)
}

// BenchmarkRoute brings bursts on one topic to a consumer that does nothing.
func BenchmarkRoute(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			r, handled := benchHub(b, "topic")
			benchRoute(b, r, handled, benchBurst("topic", size, (64<<10)/(size+20)))
		})
	}
}

// BenchmarkRouteTopics brings bursts whose events are on different topics, one after another.
func BenchmarkRouteTopics(b *testing.B) {
	for _, topics := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			names := make([]string, topics)
			for i := range names {
				names[i] = "topic" + strconv.Itoa(i)
			}
			r, handled := benchHub(b, names...)
			const n, stride = 700, 7919 // a prime
			burst := benchBurst("", 64, n)
			for i := range burst {
				burst[i].Topic = []byte(names[i*stride%topics])
			}
			benchRoute(b, r, handled, burst)
		})
	}
}

// BenchmarkQueue is what one event costs in the queue alone.
func BenchmarkQueue(b *testing.B) {
	for _, n := range []int{1, 32, 700} {
		b.Run(fmt.Sprintf("burst=%d", n), func(b *testing.B) {
			q := newQueue(defaultQueueSize, DropOldest, &brake{})
			events := make(run, n)
			for i := range events {
				events[i] = &Event{Topic: "topic"}
			}
			b.ReportAllocs()
			for b.Loop() {
				q.put(0, events)
				for q.next() != nil {
					q.done()
				}
			}
			perEvent(b, int64(b.N*n))
		})
	}
}

// BenchmarkOverflow is a queue that is full all the time.
func BenchmarkOverflow(b *testing.B) {
	for _, policy := range []struct {
		name     string
		overflow Overflow
	}{{"oldest", DropOldest}, {"newest", DropNewest}} {
		b.Run("drop="+policy.name, func(b *testing.B) {
			q := newQueue(defaultQueueSize, policy.overflow, &brake{})
			events := make(run, 700)
			for i := range events {
				events[i] = &Event{Topic: "topic"}
			}
			b.ReportAllocs()
			for b.Loop() {
				q.put(0, events)
			}
			perEvent(b, int64(b.N*len(events)))
		})
	}
}

// BenchmarkPublisher is the group commit with a statement that takes no time: what Notify costs beside the server.
func BenchmarkPublisher(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		for _, equal := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/equal=%t", callers, equal), func(b *testing.B) {
				p := publisherOf(context.Background(), &publishFuncs{send: func(context.Context, []string, []string) error {
					runtime.Gosched()
					return nil
				}})
				pad := padOf(KeyValueCodec{})
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for caller := range callers {
					all.Go(func() {
						for i := range b.N/callers + 1 {
							payload := "e"
							if !equal {
								payload += strconv.FormatInt(int64(caller)<<32|int64(i), 10)
							}
							if err := p.publish(ctx, notification{"topic", payload}, pad); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(p.events.Load())/float64(p.batches.Load()), "events/batch")
			})
		}
	}
}

// perEvent reports the cost of one of n events.
func perEvent(b *testing.B, n int64) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// waitFor waits until a counter has come so far.
func waitFor(counter *atomic.Int64, n int64) {
	for spins := 0; counter.Load() < n; spins++ {
		if spins < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(20 * time.Microsecond)
		}
	}
}
