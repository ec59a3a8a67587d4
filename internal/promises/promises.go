// Package promises is the suite of what the library promises, as black-box tests over its public API. A source of events
// keeps the promises if the suite passes on it; PostgreSQL and the server in memory of package pghubtest do, and whatever
// carries events in the future is to be put to the same test.
//
// A source is a [Backend]. [Run] is the whole suite, and [All] its parts, for those who run them in a bubble of
// testing/synctest. The promises are those of the package comment of pghub, one file for each:
//
//	effect.go     in effect means in effect
//	order.go      the order of commits, one event at a time
//	gap.go        no silent gap, and Resync
//	isolation.go  a handler harms no other
//	answers.go    honest answers
//	outage.go     it comes back
//	end.go        it ends
//	bytes.go      exactly what was sent
package promises

import (
	"testing"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/pgtest"
)

// Message is what another process publishes.
type Message struct{ Topic, Payload string }

// Backend is a source of events of a test's own, with the faults that it can be given. Faults are healed at the latest
// when the test has ended. Its methods may be called from any goroutine, and fail the test themselves.
type Backend interface {
	// Config returns what a hub needs to use the source. The suite adds to it.
	Config() pghub.Config

	// Publish publishes from another process, each message by itself and in order. When it returns all are committed.
	// It works whatever the hub's connections suffer.
	Publish(messages ...Message)

	// Disconnect ends the connection that each hub listens with; another one can be made at once. It need not wait for
	// the hub to notice.
	Disconnect()

	// Down ends all connections of the hubs and refuses new ones, until Up.
	Down()
	Up()

	// Stall silences all connections of the hubs, those made later too, until Resume: nothing gets through, and nothing
	// ends.
	Stall()
	Resume()
}

// Promise is a test of one promise.
type Promise struct {
	Name string
	Test func(t *testing.T, b Backend)
}

// Run tests every promise on a source of its own, which open opens and closes with the test.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, p := range All() {
		t.Run(p.Name, func(t *testing.T) {
			pgtest.CheckLeaks(t)
			p.Test(t, open(t))
		})
	}
}

// All returns the promises. None of them uses subtests, which a bubble does not allow.
func All() []Promise {
	return []Promise{
		{"SubscribeIsInEffect", subscribeIsInEffect},
		{"AdvisoryIsInEffect", advisoryIsInEffect},
		{"TopicsBeforeStart", topicsBeforeStart},
		{"ManySubscribe", manySubscribe},
		{"UnsubscribeIsInEffect", unsubscribeIsInEffect},
		{"OrderAcrossTopics", orderAcrossTopics},
		{"OrderIsTheSameForAll", orderIsTheSameForAll},
		{"OneEventAtATime", oneEventAtATime},
		{"GapsAreAnnounced", gapsAreAnnounced},
		{"ReconnectListensToAll", reconnectListensToAll},
		{"ResyncComesFirst", resyncComesFirst},
		{"LagIsExactDropOldest", lagIsExact(pghub.DropOldest)},
		{"LagIsExactDropNewest", lagIsExact(pghub.DropNewest)},
		{"SlowConsumerIsClosed", slowConsumerIsClosed},
		{"StuckHandlers", stuckHandlers},
		{"BreakingHandlers", breakingHandlers},
		{"ReentrantHandlers", reentrantHandlers},
		{"NilMeansCommitted", nilMeansCommitted},
		{"ManyCallers", manyCallers},
		{"InvalidIsRefusedByName", invalidIsRefusedByName},
		{"AnswersInEveryState", answersInEveryState},
		{"UnknownOutcome", unknownOutcome},
		{"Transactions", transactions},
		{"AnswersDuringAnOutage", answersDuringAnOutage},
		{"ComesBackFromDown", comesBackFromDown},
		{"ComesBackFromSilence", comesBackFromSilence},
		{"StopDelivers", stopDelivers},
		{"StopCutsOff", stopCutsOff},
		{"StopInsideAHandler", stopInsideAHandler},
		{"StopDuringAnOutage", stopDuringAnOutage},
		{"DrainDelivers", drainDelivers},
		{"CloseDiscards", closeDiscards},
		{"EveryCharacter", everyCharacter},
		{"EveryKey", everyKey},
		{"EveryTopic", everyTopic},
	}
}
