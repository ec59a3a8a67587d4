package gateway

// item is one message.
type item struct {
	topic string // of an event
	data  []byte
	lag   uint64 // how many events it stands for
	kind  kind

	again    bool // an event that can be had again, and has been counted as handed on: it does not give way
	borrowed bool // it is in the ledger
}

type kind byte

const (
	kindEvent kind = iota
	kindAdvisory
	kindReply // to an operation of the client
	kindLag
)

// itemCost is what an item takes besides its data.
const itemCost = 64

func (it item) cost() int { return itemCost + len(it.data) }

// message is the text for the client.
func (it item) message() []byte {
	if it.kind == kindLag {
		return lagMessage(it.lag)
	}
	return it.data
}

// ending is how a client's connection ends.
type ending struct {
	code   int
	reason string
}

var (
	endProtocol = &ending{CodeProtocol, "a frame that is not masked"}
	endNotText  = &ending{CodeNotText, "a text that is not UTF-8"}
	endSlow     = &ending{CodeSlow, "too slow: events come faster than they are read"}
	endFlood    = &ending{CodeFlood, "too many messages"}
	endExpired  = &ending{CodeExpired, "what this client was allowed has come to its end"}
	endStop     = &ending{CodeGoingAway, "shutting down"}
)
