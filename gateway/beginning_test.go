package gateway_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub/gateway"
)

// An event stream that begins in the past has an id from its first message on, which leads back there.
func TestAnEventStreamThatBeginsInThePast(t *testing.T) {
	f, p := newStreamFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100})
	other := f.stream("topic=m", nil)
	_, _ = other.until("subscribe")
	f.notify("m", "e:1")
	_, _ = other.some(1)
	p.publish(t, "a", 1, 2)
	for _, start := range []string{"earliest", "2000-01-01T00:00:00Z"} {
		for topics, want := range map[string][]string{"topic=a": {"a1", "a2"}, "topic=m": {"m1"}} {
			s := f.stream(topics+"&since="+start, nil)
			first, ok := s.block()
			require.True(t, ok)
			require.Equal(t, "advisory", first.event)
			require.NotEmpty(t, first.id)
			require.NoError(t, s.close())
			values, _ := f.stream(topics, since(first.id)).until("live")
			require.Equal(t, want, values, start)
		}
	}
}

// Of several topics all comes that there is, although one of them has just begun to be kept.
func TestTheBeginningOfSeveralTopics(t *testing.T) {
	f := newFixture(t, gateway.Config{Topics: []string{"*"}, HistoryEvents: 100})
	s := f.stream("topic=a&topic=c", nil)
	_, _ = s.until("subscribe")
	for _, payload := range []string{"e:1", "e:2"} {
		f.notify("a", payload)
		f.notify("c", payload)
	}
	_, _ = s.some(4)

	s = f.stream("topic=a&topic=b&topic=c&since=earliest", nil)
	values, _ := s.until("live")
	require.Equal(t, []string{"a1", "c1", "a2", "c2"}, values)
	f.notify("b", "e:3")
	f.notify("a", "e:4")
	values, _ = s.some(2)
	require.Equal(t, []string{"b3", "a4"}, values)
}
