package gateway

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// What was lost on its way from the hub is read, also where the end has just been read.
func TestLostOnTheWayIsRead(t *testing.T) {
	s := &scripted{}
	c, track := newTracked(s, 0)
	c.kept = []string{"t"}
	s.during = func(reads int) {
		s.events = upTo(1, 8)
		if reads == 1 {
			s.events = upTo(1, 5)
			c.take(numberedItem(6, 0))
			require.True(t, c.resume(""), "nothing will be missing") // 7 was lost
			c.take(numberedItem(8, 0))
		}
	}
	track.run()
	require.Equal(t, upTo(1, 8), c.sent())
	require.Equal(t, 2, s.reads)
}

// A topic that the server refused to listen to, and then did: a stream has what happened meanwhile, the memory does not.
func TestAGapOfTheHub(t *testing.T) {
	refused := &pghub.Event{
		Advisory: &pghub.Advisory{Action: pghub.ActionSubscribe, Topic: "t", Gap: pghub.Gap{Err: errors.New("refused")}},
		Value:    []byte(`{"action":"subscribe"}`),
	}
	c, _ := newTracked(historySource{}, 0)
	c.handle(t.Context(), refused)
	items, _ := c.out.take(nil)
	require.Len(t, items, 1, "the client is told")

	c, track := newTracked(streamSource{}, 0)
	c.handle(t.Context(), refused)
	items, _ = c.out.take(nil)
	require.Empty(t, items)
	require.True(t, track.spilt, "it is read")
}

// A topic that the server would not listen to for a while has a gap in the history, too.
func TestTheHistoryOfATopicThatWasRefused(t *testing.T) {
	cfg, err := pgx.ParseConfig("host=127.0.0.1")
	require.NoError(t, err)
	hub, err := pghub.New(pghub.Config{ListenConfig: cfg}) // it is not started
	require.NoError(t, err)
	p := &past{history: newHistory("e", 100, 1<<20), gateway: &Gateway{hub: hub}}
	p.history.begin("t")
	p.history.begin("u")
	number := p.history.last()
	p.handle(t.Context(), &pghub.Event{Advisory: &pghub.Advisory{Action: pghub.ActionSubscribe, Topic: "t", Gap: pghub.Gap{Err: errors.New("refused")}}})
	p.handle(t.Context(), &pghub.Event{Advisory: &pghub.Advisory{Action: pghub.ActionSubscribe, Topic: "u"}})
	p.handle(t.Context(), &pghub.Event{Advisory: &pghub.Advisory{Action: pghub.ActionSubscribe, Topic: "v", Gap: pghub.Gap{Err: errors.New("refused")}}})
	for topic, reaches := range map[string]bool{"t": false, "u": true, "v": false} {
		_, _, got := p.history.some(number, nil, []string{topic})
		require.Equal(t, reaches, got, topic)
	}
	_, follows := p.history.since["v"]
	require.False(t, follows, "nobody has asked for it")
}

// A history that is read from its beginning has of each topic what followed its own, also where it was kept before.
func TestFloorsOfAHistory(t *testing.T) {
	h := newHistory("e", 100, 1<<20)
	add := func(topics ...string) {
		for _, t := range topics {
			h.add(t, []byte("{}"))
		}
	}
	h.begin("a")
	h.begin("b")
	add("a", "b")
	h.forget("b")
	add("a")
	h.begin("b")
	both := []string{"a", "b"}
	floors, first := h.starts(both)
	add("b", "a")
	found, _, reaches := h.some(uint64(first.ID), floors, both)
	require.True(t, reaches)
	var topics string
	for _, r := range found {
		topics += r.topic
	}
	require.Equal(t, "aaba", topics, "without what was before a gap")
	found, _, reaches = h.some(found[0].number, floors, both)
	require.True(t, reaches, "and so it is on the way")
	require.Len(t, found, 3)
	_, _, reaches = h.some(uint64(first.ID), nil, both)
	require.False(t, reaches)
	h.interrupt("b")
	_, _, reaches = h.some(uint64(first.ID), floors, both)
	require.False(t, reaches, "a gap since")
}

// A replay ends with the last of its topics, wherever it is.
func TestAReplayThatNobodyWants(t *testing.T) {
	s := &scripted{events: upTo(1, 5)}
	c, track := newTracked(s, 0)
	handed := 0
	s.pause = func() { handed++ }
	s.during = func(int) { c.unfollow([]string{"t"}) }
	track.run()
	require.Empty(t, c.sent())
	require.Equal(t, 1, handed, "nothing more is read")

	synctest.Test(t, func(t *testing.T) {
		p := &past{reading: make(chan struct{}, 1)}
		p.reading <- struct{}{} // others read
		c, track := newTracked(streamSource{p}, 0)
		ended := false
		go func() {
			track.run()
			ended = true
		}()
		synctest.Wait()
		require.False(t, ended)
		c.unfollow([]string{"t"})
		synctest.Wait()
		require.True(t, ended, "it waits for its turn")
	})
}

// A replay lets others read after a while, whether its client takes all, or nothing of what there is. What it takes until there is
// something to be read does not count.
func TestAReplayTakesTurns(t *testing.T) {
	for name, f := range map[string]*filter{"takes all": nil, "takes nothing": {Key: keys("7")}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{events: upTo(1, 300)}
				c, track := newTracked(s, 0)
				c.filterTopics([]string{"t"}, f)
				s.during = func(int) { time.Sleep(5 * time.Second) }
				s.pause = func() { time.Sleep(10 * time.Millisecond) }
				track.run()
				require.Greater(t, s.reads, 2)
				require.Less(t, s.reads, 10)
				if f == nil {
					require.Equal(t, upTo(1, 300), c.sent())
				}
			})
		})
	}
}

func keys(texts ...json.Number) []json.Number { return texts }
