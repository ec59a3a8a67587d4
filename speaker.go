package pghub

import (
	"sync"
	"time"
)

// speaker passes one thing after another to code of the user's, on a goroutine that exists only while there is something to
// say. Up to errorsWaitingForUser of them wait.
type speaker[T any] struct {
	say    func(T)
	failed func(value any) // say has panicked with it or, where it is nil, ended its goroutine; nil: there is nobody to tell
	missed func(n int)     // so many found no room

	mu       sync.Mutex
	waiting  []T
	lost     int       // what found no room since missed was called
	missedAt time.Time // when it was
	talking  bool
	quiet    chan struct{} // closed when talking ends; made when it begins
}

// add says something, soon.
func (s *speaker[T]) add(what T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= errorsWaitingForUser {
		s.lost++
		return
	}
	s.waiting = append(s.waiting, what)
	if !s.talking {
		s.talking, s.quiet = true, make(chan struct{})
		go s.talk()
	}
}

// talk says one thing after another until nothing is left.
func (s *speaker[T]) talk() {
	for next := s.next(); next != nil; next = s.next() {
		s.survive(next)
	}
}

// next is what to say next. nil: nothing, and talking ends.
func (s *speaker[T]) next() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost > 0 && (len(s.waiting) == 0 || time.Since(s.missedAt) >= logSilence):
		lost := s.lost
		s.lost, s.missedAt = 0, time.Now()
		return func() { s.missed(lost) }
	case len(s.waiting) > 0:
		what := s.waiting[0]
		s.waiting = s.waiting[1:]
		return func() { s.say(what) }
	}
	s.talking = false
	close(s.quiet)
	return nil
}

// survive calls code that may panic, or end its goroutine (runtime.Goexit): then another one goes on.
func (s *speaker[T]) survive(next func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if s.failed != nil {
			s.failed(value)
		}
		if value == nil {
			go s.talk()
		}
	}()
	next()
	returned = true
}

// silence is closed when nothing is left to say.
func (s *speaker[T]) silence() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.talking {
		return s.quiet
	}
	none := make(chan struct{})
	close(none)
	return none
}
