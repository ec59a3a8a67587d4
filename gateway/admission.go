package gateway

import (
	"slices"
	"sync"
)

// admission counts clients and topics, and refuses what goes beyond the limits of the Config.
type admission struct {
	cfg *Config

	mu        sync.Mutex
	closed    bool
	clients   map[*client]struct{}
	byAddress map[string]int
	topics    map[string]int // how many clients hold it
	byKind    [2]int
	empty     chan struct{} // closed when closed and no client is left
}

func newAdmission(cfg *Config) *admission {
	return &admission{
		cfg:       cfg,
		clients:   make(map[*client]struct{}),
		byAddress: make(map[string]int),
		topics:    make(map[string]int),
		empty:     make(chan struct{}),
	}
}

// enter counts a client in.
func (a *admission) enter(c *client) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return &shuttingDown
	case len(a.clients) >= a.cfg.MaxClients:
		return &tooManyClients
	case a.byAddress[c.address] >= a.cfg.MaxClientsPerAddress:
		return &tooManyFromAddress
	}
	a.clients[c] = struct{}{}
	a.byAddress[c.address]++
	a.byKind[c.transport]++
	return nil
}

// leave counts a client out, with all its topics. first: it had not left before.
func (a *admission) leave(c *client) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, in := a.clients[c]; !in {
		return false
	}
	delete(a.clients, c)
	a.byKind[c.transport]--
	if a.byAddress[c.address]--; a.byAddress[c.address] == 0 {
		delete(a.byAddress, c.address)
	}
	a.releaseLocked(c, c.topics)
	if a.closed && len(a.clients) == 0 {
		close(a.empty)
	}
	return true
}

// hold counts topics in for a client, all or none; added are those that it did not have.
func (a *admission) hold(c *client, topics []string) (added []string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, in := a.clients[c]; !in {
		return nil, &shuttingDown
	}
	fresh := 0
	for _, t := range topics {
		if slices.Contains(c.topics, t) || slices.Contains(added, t) {
			continue
		}
		if len(c.topics)+len(added) >= a.cfg.MaxTopics {
			return nil, tooManyTopics.about(t)
		}
		if a.topics[t] == 0 {
			if fresh++; len(a.topics)+fresh > a.cfg.MaxTopicsTotal {
				return nil, tooManyTopicsTotal.about(t)
			}
		}
		added = append(added, t)
	}
	for _, t := range added {
		a.topics[t]++
	}
	c.topics = append(c.topics, added...)
	return added, nil
}

// release counts topics out for a client.
func (a *admission) release(c *client, topics []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked(c, topics)
}

func (a *admission) releaseLocked(c *client, topics []string) {
	for _, t := range slices.Clone(topics) {
		i := slices.Index(c.topics, t)
		if i < 0 {
			continue
		}
		c.topics = slices.Delete(c.topics, i, i+1)
		if a.topics[t]--; a.topics[t] == 0 {
			delete(a.topics, t)
		}
	}
}

// close admits no client any more, and returns those that are in.
func (a *admission) close() []*client {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		if len(a.clients) == 0 {
			close(a.empty)
		}
	}
	return a.allLocked()
}

func (a *admission) all() []*client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.allLocked()
}

func (a *admission) allLocked() []*client {
	all := make([]*client, 0, len(a.clients))
	for c := range a.clients {
		all = append(all, c)
	}
	return all
}

// count returns how many clients there are by transport, and how many topics they hold.
func (a *admission) count() (webSockets, streams, topics int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byKind[viaWebSocket], a.byKind[viaStream], len(a.topics)
}

func (a *admission) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}
