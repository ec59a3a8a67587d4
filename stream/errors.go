package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pghub/pghub"
)

// SQLSTATEs.
const (
	stateFenced         = "PGH01" // raised by pghub.fenced
	stateSetBack        = "PGH02" // raised by pghub.store
	stateWrongIsolation = "25000"
)

// named gives an error of a query the name that callers look for.
func named(err error) error {
	var pgErr *pgconn.PgError
	var scan pgx.ScanArgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &scan): // what the server said is not understood
		return err
	case errors.As(err, &pgErr) && pgErr.Code == stateFenced:
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case pgErr != nil && pgErr.Code == stateSetBack:
		return fmt.Errorf("%w: %w", errSetBack, err)
	case errors.As(err, &pgErr), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%w: %w", pghub.ErrNotConnected, err)
}

func hasState(err error, state string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == state
}

// checkTopic is the hub's rule for topics.
func checkTopic(topic string) error {
	switch {
	case len(topic) == 0, len(topic) > 63:
		return fmt.Errorf("%w: %.70q has %d bytes; a topic has 1 to 63", pghub.ErrTopic, topic, len(topic))
	case strings.ContainsRune(topic, 0):
		return fmt.Errorf("%w: %q contains NUL", pghub.ErrTopic, topic)
	case !utf8.ValidString(topic):
		return fmt.Errorf("%w: %q is not UTF-8", pghub.ErrTopic, topic)
	}
	return nil
}
