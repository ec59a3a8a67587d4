package gateway

import (
	"encoding/json"
	"net/http"
	"sync"
)

// operation is a message of a client on /ws.
type operation struct {
	Op     string          `json:"op"`
	ID     json.RawMessage `json:"id,omitempty"` // comes back in the answer
	Topics []string        `json:"topics,omitempty"`
	Since  string          `json:"since,omitempty"` // what followed it comes too
	Filter *filter         `json:"filter,omitempty"`
}

// answer is what an operation gets. Events have no "op".
type answer struct {
	Op      string          `json:"op"`
	ID      json.RawMessage `json:"id,omitempty"`
	Topics  []string        `json:"topics,omitempty"`
	Since   string          `json:"since,omitempty"`  // from where on the client gets all
	Stream  []string        `json:"stream,omitempty"` // of the topics: those whose events nothing is missing of when the database was away
	Error   string          `json:"error,omitempty"`
	Message string          `json:"message,omitempty"`
	Topic   string          `json:"topic,omitempty"`
}

// waitingOperations is how many operations of one client may wait for the database.
const waitingOperations = 64

// operations carries out what a client asks for, in its order, on a goroutine that lives while there is something to do:
// a subscription waits while the database is away, and pings and pongs must be read meanwhile.
type operations struct {
	client  *client
	request *http.Request // that opened the WebSocket; nil if there is nobody to ask about it

	mu      sync.Mutex
	waiting []operation
	running bool
}

// receive takes a message.
func (o *operations) receive(text bool, data []byte) {
	var op operation
	if err := json.Unmarshal(data, &op); err != nil || !text {
		p := badRequest
		p.Message = "a message is a text with a JSON object: op, and topics where it needs them"
		o.fail(operation{}, &p)
		return
	}
	switch op.Op {
	case "ping":
		o.answer(answer{Op: "pong", ID: op.ID})
	case "subscribe", "unsubscribe":
		if len(op.Topics) == 0 {
			p := badRequest
			p.Message = "topics are missing"
			o.fail(op, &p)
			return
		}
		o.enqueue(op)
	default:
		p := badRequest
		p.Message = "op is subscribe, unsubscribe or ping"
		o.fail(op, &p)
	}
}

func (o *operations) enqueue(op operation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= waitingOperations {
		o.fail(op, &tooManyOperations)
		return
	}
	o.waiting = append(o.waiting, op)
	if !o.running {
		o.running = true
		go o.run()
	}
}

func (o *operations) run() {
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 {
			o.waiting, o.running = nil, false
			o.mu.Unlock()
			return
		}
		op := o.waiting[0]
		o.waiting = o.waiting[1:]
		o.mu.Unlock()
		o.perform(op)
	}
}

func (o *operations) perform(op operation) {
	c := o.client
	var err error
	var now cursor
	done := "subscribed"
	topics := op.Topics
	if op.Op == "unsubscribe" {
		done = "unsubscribed"
		topics = c.heldTopics(topics)
		err = c.unsubscribe(c.ctx, topics)
	} else if len(op.Topics) > c.gateway.cfg.MaxTopics { // before anybody is asked about each of them
		err = &tooManyTopics
	} else if topics, err = c.gateway.mayListenTo(o.request, op.Topics); err == nil {
		now, err = o.subscribe(op, topics)
	}
	if err != nil {
		o.fail(op, err)
		return
	}
	a := answer{Op: done, ID: op.ID, Topics: topics}
	if op.Op == "subscribe" {
		a.Since, a.Stream = now.String(), c.gateway.past.ofStream(topics)
	}
	o.answer(a)
}

func (o *operations) subscribe(op operation, topics []string) (now cursor, err error) {
	since, err := o.client.gateway.sinceOf(op.Since)
	if err == nil {
		err = op.Filter.normalize()
	}
	if err != nil {
		return now, err
	}
	return o.client.subscribe(o.client.ctx, topics, since, op.Filter)
}

func (o *operations) fail(op operation, err error) {
	p, known := problemOf(err)
	if !known {
		o.client.gateway.cfg.Logger.Warn("gateway: an operation failed", "op", op.Op, "error", err)
	}
	o.client.gateway.counters.refusedOne(p.Name)
	o.answer(answer{Op: "error", ID: op.ID, Error: p.Name, Message: p.Message, Topic: p.Topic})
}

func (o *operations) answer(a answer) {
	message, err := json.Marshal(a)
	if err != nil {
		return // never: ID is JSON, or op would not have been decoded
	}
	o.client.reply(message)
}
