package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/bridge"
)

// Config makes a [Sink]. Pool and Name must be set.
type Config struct {
	// Pool is of the database to publish in. It is yours to close, behind the bridge.
	Pool *pgxpool.Pool

	// Name is the source's: positions are kept under it and the route's name. Do not change it.
	Name string

	// Stream publishes into the stream, which needs schema pghub in the target. Else messages are notifications.
	Stream bool

	// Raw notifies of the body as it is, whatever text it is, and not of key and value. Not for Stream.
	Raw bool

	// Table keeps the positions. It may name a schema. "": pghub_bridge.
	Table string
}

// Sink publishes in another database. All methods may be called from several goroutines at once.
type Sink struct {
	cfg    Config
	table  string // quoted
	closed atomic.Bool
}

const defaultTable = "pghub_bridge"

// New makes a sink. It connects to nothing.
func New(cfg Config) (*Sink, error) {
	switch {
	case cfg.Pool == nil:
		return nil, errors.New("bridge/hub: Config.Pool is nil")
	case cfg.Name == "":
		return nil, errors.New("bridge/hub: Config.Name is empty: positions are kept under it")
	case cfg.Raw && cfg.Stream:
		return nil, errors.New("bridge/hub: Config.Raw and Stream are both set: values of a stream are JSON")
	}
	return &Sink{cfg: cfg, table: quoted(cfg.Table)}, nil
}

func quoted(table string) string {
	if table == "" {
		table = defaultTable
	}
	return pgx.Identifier(strings.Split(table, ".")).Sanitize()
}

// Setup makes the table of positions, if it is not there. table is Config.Table.
func Setup(ctx context.Context, pool *pgxpool.Pool, table string) error {
	_, err := pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+quoted(table)+` (
		name text NOT NULL, route text NOT NULL, tick bigint NOT NULL, txn bigint NOT NULL, id bigint NOT NULL,
		at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (name, route))`)
	if err != nil && !hasState(err, "23505", "42P07", "42710") { // somebody else has just made it: IF NOT EXISTS looks before it makes
		return fmt.Errorf("bridge/hub: setup: %w", err)
	}
	return nil
}

// NeedsOrder says that the route has to have one lane: what is at or before the last position is there already.
func (s *Sink) NeedsOrder() bool { return true }

// TakesGaps says that gaps are events of their own. Their topic is the target, or pghub.gap if that is empty.
func (s *Sink) TakesGaps() bool { return true }

// Check looks whether the table of positions may be read and written, and whether the role may publish in the stream.
func (s *Sink) Check(ctx context.Context, _ []string) error {
	var may bool
	const table = `SELECT has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'INSERT') AND has_table_privilege($1, 'UPDATE')`
	if err := s.cfg.Pool.QueryRow(ctx, table, s.table).Scan(&may); err != nil {
		return fmt.Errorf("bridge/hub: check: table %s, which Setup makes: %w", s.table, err)
	}
	if !may {
		return fmt.Errorf("bridge/hub: check: the role may not SELECT, INSERT and UPDATE %s", s.table)
	}
	if !s.cfg.Stream {
		return nil
	}
	const publish = `SELECT has_function_privilege('pghub.capture_all(text[], text[], text[], text[])', 'EXECUTE')`
	if err := s.cfg.Pool.QueryRow(ctx, publish).Scan(&may); err != nil {
		return fmt.Errorf("bridge/hub: check: stream: %w", err)
	}
	if !may {
		return errors.New("bridge/hub: check: the role may not publish: SELECT pghub.allow(role, 'publish')")
	}
	return nil
}

// Close does nothing but end the sink: the pool is yours.
func (s *Sink) Close(context.Context) error {
	s.closed.Store(true)
	return nil
}

// Send publishes messages in one transaction: see [bridge.Sink].
func (s *Sink) Send(ctx context.Context, batch []*bridge.Message) error {
	if s.closed.Load() {
		return bridge.ErrClosed
	}
	results := make(bridge.Errors, len(batch))
	rows := s.rows(batch, results)
	err := s.publish(ctx, batch[0].Route, rows)
	if hasState(err, "42P01") { // there is no such table
		if err = Setup(ctx, s.cfg.Pool, s.cfg.Table); err == nil {
			err = s.publish(ctx, batch[0].Route, rows)
		}
	}
	if err != nil {
		err = fmt.Errorf("bridge/hub: %w", err)
		switch hopeless := isHopeless(err); {
		case hopeless && len(rows) == 1:
			err = bridge.Refuse(err)
		case hopeless:
			err = bridge.RetryAfter(0, err) // which one it is, smaller batches will tell
		}
	}
	for _, r := range rows {
		results[r.place] = err
	}
	return results.OrNil()
}

// row is a message as it is published.
type row struct {
	place    int // in the batch
	position pghub.Position
	topic    string
	key      []int64
	value    *string // of a stream
	headers  *string
	payload  string // of a notification
}

// rows makes rows of messages. What cannot be published gets its error.
func (s *Sink) rows(batch []*bridge.Message, results bridge.Errors) []row {
	rows := make([]row, 0, len(batch))
	sent := make(map[[2]string]bool) // topics and payloads: PostgreSQL folds equal ones of a transaction into one
	for i, m := range batch {
		r := row{place: i, topic: m.Target, key: m.Key}
		if r.topic == "" {
			r.topic = m.Topic
		}
		if !m.Again {
			r.position = m.Position
		}
		err := checkTopic(r.topic)
		if err == nil && !s.cfg.Raw && len(m.Body) > 0 && !json.Valid(m.Body) {
			err = fmt.Errorf("%w: the body is not JSON", pghub.ErrValue)
		}
		switch {
		case err != nil:
		case s.cfg.Stream:
			r.value, r.headers = valueOf(m), headersOf(m)
		default:
			r.payload, err = s.payload(m)
		}
		if err != nil {
			results[i] = bridge.Refuse(fmt.Errorf("bridge/hub: %w", err))
			continue
		}
		if !s.cfg.Stream && !s.distinct(&r, sent) {
			for ; i < len(batch); i++ {
				results[i] = bridge.ErrNotSent // yet: it needs a transaction of its own
			}
			break
		}
		rows = append(rows, r)
	}
	return rows
}

// publish does its work in a transaction that also moves the position, unless all of it is there.
func (s *Sink) publish(ctx context.Context, route string, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	return pgx.BeginTxFunc(ctx, s.cfg.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		last := lastOf(rows)
		if !last.IsZero() {
			reached, err := s.reached(ctx, tx, route)
			if err != nil {
				return err
			}
			rows = behind(rows, reached)
		}
		if len(rows) == 0 {
			return nil
		}
		var work pgx.Batch
		s.queue(&work, rows)
		if !last.IsZero() {
			work.Queue(`UPDATE `+s.table+` SET tick = $3, txn = $4, id = $5, at = now() WHERE name = $1 AND route = $2 AND (tick, txn, id) < ($3, $4, $5)`,
				s.cfg.Name, route, last.Tick, last.Txn, last.ID)
		}
		return tx.SendBatch(ctx, &work).Close()
	})
}

// reached locks the position and reads it: whoever else brings messages of this route waits, and so does this one for a transaction
// whose COMMIT has not been answered. What COMMIT says is then on the disk, as it has to be before the source goes past it.
func (s *Sink) reached(ctx context.Context, tx pgx.Tx, route string) (at pghub.Position, err error) {
	read := `SELECT tick, txn, id, CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'local', true) END
		FROM ` + s.table + ` WHERE name = $1 AND route = $2 FOR UPDATE`
	var unused *string
	err = tx.QueryRow(ctx, read, s.cfg.Name, route).Scan(&at.Tick, &at.Txn, &at.ID, &unused)
	if !errors.Is(err, pgx.ErrNoRows) {
		return at, err
	}
	insert := `INSERT INTO ` + s.table + ` (name, route, tick, txn, id) VALUES ($1, $2, 0, 0, 0) ON CONFLICT DO NOTHING`
	if _, err = tx.Exec(ctx, insert, s.cfg.Name, route); err != nil {
		return at, err
	}
	return at, tx.QueryRow(ctx, read, s.cfg.Name, route).Scan(&at.Tick, &at.Txn, &at.ID, &unused)
}

// lastOf is the position of the last row that has one.
func lastOf(rows []row) (last pghub.Position) {
	for _, r := range rows {
		if !r.position.IsZero() {
			last = r.position
		}
	}
	return last
}

// behind is those rows that are behind a position, or have none.
func behind(rows []row, at pghub.Position) (left []row) {
	for _, r := range rows {
		if r.position.IsZero() || r.position.Compare(at) > 0 {
			left = append(left, r)
		}
	}
	return left
}

func hasState(err error, states ...string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains(states, pgErr.Code)
}

// isHopeless reports whether the server does not take what was sent, whenever it is: data that it cannot read. A full queue of
// notifications, and a transaction that is too large, are other classes of errors, and pass.
func isHopeless(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "22")
}
