package gateway

import (
	"errors"
	"os"
	"sync"
	"time"
)

// errStuck is why a write ends whose client has taken nothing for Config.WriteTimeout.
var errStuck = errors.New("gateway: the client takes nothing")

// progress watches over writes to a client, and ends one that comes no further. That a write lasts says little: the system wakes a
// writer when a third of what it keeps has gone, which takes a slow reader minutes. So the client's system is asked what it
// has confirmed, where the own one can tell.
type progress struct {
	timeout time.Duration
	taken   func() (bytes uint64, known bool) // by the client's system, so far
	fail    func()                            // ends the write that is under way; called again for as long as it has not

	mu      sync.Mutex
	timer   *time.Timer // nil before the first write
	writing bool
	since   time.Time // when the write began, or was last seen to come further
	seen    uint64    // of taken
	looked  bool      // seen is of this write
	stuck   bool
}

// looks is how often a write is looked at in the timeout. It ends that much later than the timeout at most.
const looks = 4

// begin is called before a write.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing, p.looked, p.since = true, false, time.Now()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.timeout/looks, p.look)
	} else {
		p.timer.Reset(p.timeout / looks)
	}
}

// end is called behind a write, with how it went.
func (p *progress) end(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing = false
	p.timer.Stop()
	if p.stuck {
		return errors.Join(errStuck, os.ErrDeadlineExceeded)
	}
	return err
}

func (p *progress) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.writing {
		return
	}
	now := time.Now()
	if taken, known := p.taken(); known {
		if !p.looked || taken != p.seen {
			p.since = now
		}
		p.seen, p.looked = taken, true
	}
	if p.stuck = p.stuck || now.Sub(p.since) >= p.timeout; p.stuck {
		p.fail()
	}
	p.timer.Reset(p.timeout / looks)
}
