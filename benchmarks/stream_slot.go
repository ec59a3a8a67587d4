package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pghub/pghub"
)

// readSlot makes events of the rows that a slot decodes, until that is enough. It keeps the server waiting for nothing: it says
// that it is there when it is asked.
func readSlot(ctx context.Context, conn *pgconn.PgConn, slot string, handle func(*pghub.Event) (more bool)) error {
	err := pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'benchmark'"},
	})
	if err != nil {
		return err
	}
	for {
		received, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		data, ok := received.(*pgproto3.CopyData)
		if !ok {
			return fmt.Errorf("the slot sends %T", received)
		}
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			keepalive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
			if err == nil && keepalive.ReplyRequested {
				err = pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: 1})
			}
			if err != nil {
				return err
			}
		case pglogrepl.XLogDataByteID:
			ev, err := eventOf(data.Data[1:])
			if err != nil {
				return err
			}
			if ev != nil && !handle(ev) {
				return nil
			}
		}
	}
}

// eventOf makes an event of a row that was inserted; nil: it is something else.
func eventOf(data []byte) (*pghub.Event, error) {
	x, err := pglogrepl.ParseXLogData(data)
	if err != nil {
		return nil, err
	}
	parsed, err := pglogrepl.Parse(x.WALData)
	if err != nil {
		return nil, err
	}
	insert, ok := parsed.(*pglogrepl.InsertMessage)
	if !ok {
		return nil, nil
	}
	return eventOfTuple(insert.Tuple)
}

// The columns of the table that the slot reads.
const (
	columnID = iota
	columnTopic
	columnKey
	columnValue
	columnHeaders
	columnAt
	columnCount
)

func eventOfTuple(row *pglogrepl.TupleData) (*pghub.Event, error) {
	if row == nil || len(row.Columns) != columnCount {
		return nil, errors.New("the slot has another table")
	}
	text := func(column int) []byte { return row.Columns[column].Data }
	ev := &pghub.Event{Topic: string(text(columnTopic)), Value: text(columnValue), Record: &pghub.Record{}}
	for key := range strings.SplitSeq(strings.Trim(string(text(columnKey)), "{}"), ",") {
		if key == "" {
			continue
		}
		n, err := strconv.ParseInt(key, 10, 64)
		if err != nil {
			return nil, err
		}
		ev.Key = append(ev.Key, n)
	}
	var err error
	if ev.Record.Position.ID, err = strconv.ParseInt(string(text(columnID)), 10, 64); err != nil {
		return nil, err
	}
	ev.Record.Time, err = time.Parse("2006-01-02 15:04:05.999999Z07", string(text(columnAt)))
	return ev, err
}
