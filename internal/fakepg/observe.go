package fakepg

import (
	"context"
	"maps"
	"slices"
)

// Queries returns the texts of all queries that have arrived so far, over all sessions, those held, refused or
// waiting for a frozen server included. Those of the extended protocol count when they are to be executed.
func (s *Server) Queries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queries)
}

// WaitQuery waits until a query that matches has arrived, whether it did so before the call or does later, and
// returns its text. match sees every query once, in order.
func (s *Server) WaitQuery(ctx context.Context, match func(sql string) bool) (string, error) {
	defer context.AfterFunc(ctx, func() { s.change(func() {}) })()
	for i := 0; ; i++ {
		s.mu.Lock()
		for len(s.queries) == i && ctx.Err() == nil {
			s.cond.Wait()
		}
		if len(s.queries) == i {
			s.mu.Unlock()
			return "", ctx.Err()
		}
		sql := s.queries[i]
		s.mu.Unlock()
		if match(sql) {
			return sql, nil
		}
	}
}

// Published returns what clients have committed so far, in the order of the commits. What Notify sent is not among it.
func (s *Server) Published() []Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

// Wait waits until done says so, which is asked after every change. It must not call the server.
func (s *Server) Wait(ctx context.Context, done func(listening map[string]bool, published []Notification) bool) error {
	defer context.AfterFunc(ctx, func() { s.change(func() {}) })()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done(s.listeningLocked(), s.published) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.cond.Wait()
	}
	return nil
}

// Listening returns the channels on which live sessions listen, sorted, each once.
func (s *Server) Listening() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.listeningLocked()))
}

func (s *Server) listeningLocked() map[string]bool {
	all := map[string]bool{}
	for _, ss := range s.sessions {
		if ss.state == live {
			maps.Copy(all, ss.channels)
		}
	}
	return all
}

// Sessions returns how many connections are past their start-up.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, ss := range s.sessions {
		if ss.state == live {
			n++
		}
	}
	return n
}

// StartupParams returns the parameters of every start-up so far, failed ones included.
func (s *Server) StartupParams() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.startups)
}
