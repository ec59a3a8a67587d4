package gateway

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

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
