package stream

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pghub/pghub"
)

// row is a row of pghub.page, or of pghub.parked. One after the other may be scanned into it.
type row struct {
	at             Position
	isEvent        bool   // it has a topic
	topic          string // of the last event
	key            []int64
	value, headers []byte // valid until the next one
	when           time.Time
}

// The columns of a row, and which of them come in PostgreSQL's binary form unless the pool's connections are told otherwise.
const (
	columnTick = iota
	columnTxn
	columnID
	columnTopic
	columnKey
	columnValue
	columnHeaders
	columnAt
	columns
)

var binaryColumns = [...]int{columnTick, columnTxn, columnID, columnKey, columnAt}

var errRow = errors.New("a row that is not as it should be")

// scan reads a row: a backlog is limited by what that takes, so it is done by hand.
func (r *row) scan(from pgx.CollectableRow) error {
	raw, fields := from.RawValues(), from.FieldDescriptions()
	if len(raw) != columns {
		return errRow
	}
	for _, n := range binaryColumns {
		if fields[n].Format != pgx.BinaryFormatCode {
			return r.scanText(from)
		}
	}
	if len(raw[columnTick]) != 8 || len(raw[columnTxn]) != 8 || len(raw[columnID]) != 8 || len(raw[columnAt]) != 8 {
		return errRow
	}
	r.at = Position{Tick: int8Of(raw[columnTick]), Txn: int8Of(raw[columnTxn]), ID: int8Of(raw[columnID])}
	r.setTopic(raw[columnTopic])
	r.value, r.headers = raw[columnValue], raw[columnHeaders]
	const epoch = 946_684_800 // 2000-01-01 as Unix time
	micros := int8Of(raw[columnAt])
	r.when = time.Unix(epoch+micros/1_000_000, micros%1_000_000*1000)
	return r.setKey(raw[columnKey])
}

func int8Of(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

// scanText reads a row that came as text: of a pool with the simple protocol.
func (r *row) scanText(from pgx.CollectableRow) error {
	var topic *string
	*r = row{}
	err := from.Scan(&r.at.Tick, &r.at.Txn, &r.at.ID, &topic, &r.key, &r.value, &r.headers, &r.when)
	if topic != nil {
		r.topic, r.isEvent = *topic, true
	}
	return err
}

// setTopic takes a topic. Events that follow each other often have the same.
func (r *row) setTopic(raw []byte) {
	if r.isEvent = raw != nil; r.isEvent && r.topic != string(raw) {
		r.topic = string(raw)
	}
}

// setKey takes an array of bigint in binary form: dimensions, whether one is NULL, the type; the length and lower bound of the
// dimension; and the elements, each after its length.
func (r *row) setKey(raw []byte) error {
	const head, bounds, element = 12, 8, 4 + 8
	r.key = nil
	if raw == nil || len(raw) == head {
		return nil
	}
	if len(raw) < head+bounds || (len(raw)-head-bounds)%element != 0 || binary.BigEndian.Uint32(raw) != 1 {
		return errRow
	}
	raw = raw[head+bounds:]
	r.key = make([]int64, len(raw)/element)
	for i := range r.key {
		if binary.BigEndian.Uint32(raw) != 8 {
			return errRow
		}
		r.key[i] = int8Of(raw[4:])
		raw = raw[element:]
	}
	return nil
}

// newRecorded is a copy of an event and of its record, in one piece.
func newRecorded(ev *pghub.Event, record *pghub.Record) *pghub.Event {
	both := &struct {
		event  pghub.Event
		record pghub.Record
	}{*ev, *record}
	both.event.Record = &both.record
	return &both.event
}

// event makes an event of a row. Its payload is the one that it would have as a notification.
func (r *row) event() *pghub.Event {
	ev := newRecorded(&pghub.Event{Topic: r.topic, Key: r.key}, &pghub.Record{Position: r.at, Time: r.when, Headers: headersOf(r.headers)})
	payload := make([]byte, 0, 1+8*len(r.key)+1+len(r.value))
	payload = appendKey(append(payload, 'e'), r.key)
	if r.value != nil {
		payload = append(append(payload, ':'), r.value...)
		ev.Value = json.RawMessage(payload[len(payload)-len(r.value):])
	}
	ev.Payload = payload
	return ev
}

func scanEvent(from pgx.CollectableRow) (*pghub.Event, error) {
	var r row
	if err := r.scan(from); err != nil {
		return nil, err
	}
	return r.event(), nil
}
