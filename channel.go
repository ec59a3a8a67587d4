package pghub

import (
	"reflect"
	"slices"
	"time"
)

// This file holds what the router knows: channels, who subscribes to them, and the calls that wait. A topic is a channel of
// PostgreSQL by the same name; the other sources have topics only.

// channelState is where a channel stands with the server. Only listen.go changes it:
//
//	from       when                                    to
//	idle       it is wanted, and a session asks        asking
//	asking     the server acknowledges LISTEN          listening
//	asking     LISTEN is refused, with others          idle, and asked for alone
//	asking     LISTEN is refused                       refused
//	listening  nobody wants it any more                leaving
//	leaving    the server acknowledges UNLISTEN        idle, or dropped
//	leaving    UNLISTEN is refused                     listening
//	refused    it is wanted still, and tried again     asking
//	any        the session ends                        idle
//
// A channel that is idle, or refused, and that nobody wants is dropped.
type channelState int

const (
	channelIdle      channelState = iota // the server does not listen to it
	channelAsking                        // LISTEN is under way
	channelListening                     // LISTEN has been acknowledged on this connection
	channelLeaving                       // UNLISTEN is under way
	channelRefused                       // the server has said no
)

// channel is what the router knows of one channel. Its fields are owned by router.mu.
type channel struct {
	name     string
	state    channelState
	groups   []*group        // who receives its events, by codec
	pending  []*subscription // in effect as soon as LISTEN is acknowledged
	received uint64

	dirty   bool       // is in router.dirty
	owed    bool       // counts in router.owed
	alone   bool       // was refused together with others: ask for it by itself
	refusal error      // why it is, or was until this moment, refused
	missing time.Time  // since then its groups miss events, though a session listened; zero: they do not
	gone    []*request // Unsubscribe calls that wait until it is left
}

// group is those subscriptions of a channel that share a codec: their events are decoded once.
type group struct {
	codec   Codec
	members []member
}

// member is a subscription, with its consumer at hand.
type member struct {
	c   *Consumer
	sub *subscription
}

// subscription is one consumer's interest in one topic. Its fields are owned by router.mu.
type subscription struct {
	c     *Consumer
	ch    *channel
	seq   uint64     // tells which subscription is older
	group *group     // nil until it is in effect
	index int        // in group.members
	waits []*request // of Subscribe calls
	ended bool       // unsubscribed

	asking   int  // calls of Subscribe, but for those that failed
	recorded bool // by one of them before Start
}

// request is a Subscribe or Unsubscribe call that waits. left and err are owned by router.mu. Once done is closed err may
// be read.
type request struct {
	left int // what it still waits for, and 1 while it is being made
	err  error
	subs []*subscription // that a Subscribe call asks for
	done chan struct{}
}

func newRequest() *request { return &request{left: 1, done: make(chan struct{})} }

// settle ends one of the things that a request waits for, or all of them if err is not nil.
func (req *request) settle(err error) {
	switch {
	case req.left == 0:
	case err != nil:
		req.fail(err)
	default:
		if req.left--; req.left == 0 {
			close(req.done)
		}
	}
}

func (req *request) fail(err error) {
	req.left, req.err = 0, err
	close(req.done)
}

// settle ends the Subscribe calls that wait for the subscription.
func (sub *subscription) settle(err error) {
	for _, req := range sub.waits {
		req.settle(err)
	}
	sub.waits = nil
}

func (ch *channel) wanted() bool { return len(ch.groups)+len(ch.pending) > 0 }

// groupOf returns the group of a codec, made if need be. Codecs that cannot be compared get one each.
func (ch *channel) groupOf(codec Codec) *group {
	for _, g := range ch.groups {
		if reflect.ValueOf(codec).Comparable() && g.codec == codec {
			return g
		}
	}
	g := &group{codec: codec}
	ch.groups = append(ch.groups, g)
	return g
}

// join puts a subscription into the group of its consumer's codec: events of the channel go to it from now on.
func (ch *channel) join(sub *subscription) {
	sub.group = ch.groupOf(sub.c.codec)
	sub.index = len(sub.group.members)
	sub.group.members = append(sub.group.members, member{sub.c, sub})
}

// leave takes a subscription out of the channel.
func (ch *channel) leave(sub *subscription) {
	g := sub.group
	if g == nil {
		ch.pending = slices.DeleteFunc(ch.pending, func(other *subscription) bool { return other == sub })
		return
	}
	last := len(g.members) - 1
	g.members[sub.index] = g.members[last]
	g.members[sub.index].sub.index = sub.index
	g.members[last] = member{}
	if g.members = g.members[:last]; last == 0 {
		ch.groups = slices.DeleteFunc(ch.groups, func(other *group) bool { return other == g })
	}
	sub.group = nil
}
