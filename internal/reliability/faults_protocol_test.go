package reliability

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/internal/fakepg"
)

// scripted runs a test with a scripted server, inside a bubble whose clock goes on when everybody waits. A goroutine that
// is left at the end fails the test.
func scripted(t *testing.T, test func(t *testing.T, s *fakepg.Server)) {
	t.Helper()
	outside := faultPatience
	defer func() { faultPatience = outside }()
	faultPatience = time.Hour // which passes in no time
	synctest.Test(t, func(t *testing.T) {
		s := fakepg.New()
		t.Cleanup(s.Close)
		test(t, s)
	})
}

// wire returns messages as they are sent.
func wire(t *testing.T, msgs ...pgproto3.BackendMessage) (b []byte) {
	t.Helper()
	for _, m := range msgs {
		var err error
		b, err = m.Encode(b)
		require.NoError(t, err)
	}
	return b
}

func notification(payload string) *pgproto3.NotificationResponse {
	return &pgproto3.NotificationResponse{PID: 7, Channel: "t", Payload: payload}
}

// mixedBurst is what a server may send at any time, in any order.
func mixedBurst() []pgproto3.BackendMessage {
	return []pgproto3.BackendMessage{
		notification("e1"),
		&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "nothing to worry about"},
		notification(`e2:"é"`),
		&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: "off"},
		&pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000", Message: ""},
		notification("e"),
	}
}

// TestFaultProtocolSplit: a burst with notices and parameters in its middle arrives whole, wherever it is cut in two.
func TestFaultProtocolSplit(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		hub, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
		d.expect(t, "connect", "subscribe t")
		burst := wire(t, mixedBurst()...)
		for cut := range burst {
			s.SendRaw(burst[:cut])
			synctest.Wait()
			s.SendRaw(burst[cut:])
			d.expect(t, "t=e1", `t=e2:"é"`, "t=e")
		}
		for i := range burst { // and into single bytes
			s.SendRaw(burst[i : i+1])
			synctest.Wait()
		}
		d.expect(t, "t=e1", `t=e2:"é"`, "t=e")
		require.Zero(t, hub.Stats().Reconnects)
	})
}

// TestFaultProtocolNonsense: whatever a server does not send to a listener ends the connection, at once and without
// waiting for more, and what came before it is delivered.
func TestFaultProtocolNonsense(t *testing.T) {
	frame := func(kind byte, length uint32, body string) []byte {
		b := binary.BigEndian.AppendUint32([]byte{kind}, length)
		return append(b, body...)
	}
	for _, test := range []struct {
		name string
		sent []byte
	}{
		{"a length of 1 GB", frame('A', 1<<30, "")},
		{"a length of 4 GB", frame('N', 1<<32-1, "")},
		{"a length below that of the length", frame('A', 3, "")},
		{"a length of nothing", frame('S', 0, "")},
		{"a length that is too short", frame('A', 4+4+2+1, "\x00\x00\x00\x07t\x00e1\x00")},
		{"a length that is too long", frame('A', 4+4+2+3+5, "\x00\x00\x00\x07t\x00e1\x00"+"A\x00\x00\x00\x04")},
		{"a notification without an end", frame('A', 4+4+1, "\x00\x00\x00\x07t")},
		{"an empty notification", frame('A', 4, "")},
		{"a message of unknown type", frame('!', 4, "")},
		{"rows that nobody asked for", wire(t, &pgproto3.DataRow{Values: [][]byte{[]byte("1")}})},
		{"an answer to nothing", wire(t, &pgproto3.ReadyForQuery{TxStatus: 'I'})},
		{"an error about nothing", wire(t, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX000", Message: "?"})},
		{"an error without an end", frame('E', 4+2, "SE")},
		{"copy data", frame('d', 5, "x")},
		{"a request for a password", frame('R', 8, "\x00\x00\x00\x03")},
		{"text", []byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
	} {
		t.Run(test.name, func(t *testing.T) {
			scripted(t, func(t *testing.T, s *fakepg.Server) {
				_, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config(), ProbeInterval: -1}, "t")
				d.expect(t, "connect", "subscribe t")
				began := time.Now()
				s.SendRaw(append(wire(t, notification("e0")), test.sent...))
				d.expect(t, "t=e0")
				lost := d.await(t, "disconnect").Advisory
				require.Zero(t, time.Since(began), "it waited")
				require.Error(t, lost.Err)
				d.expect(t, "reconnect")
				s.Notify("t", "e1")
				d.expect(t, "t=e1")
			})
		})
	}
}

// TestFaultProtocolFatal: the reason that the server gives is that of the disconnect, whether it names its severity in the
// one untranslated way or, as poolers do, only in the other.
func TestFaultProtocolFatal(t *testing.T) {
	for _, severity := range []string{"", "FATAL"} {
		scripted(t, func(t *testing.T, s *fakepg.Server) {
			_, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
			s.Send(notification("e0"), &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: severity, Code: "57P01", Message: "the end"})
			d.expect(t, "connect", "subscribe t", "t=e0")
			require.Equal(t, "57P01", sqlState(d.await(t, "disconnect").Advisory.Err))
			d.expect(t, "reconnect")
		})
	}
}

// TestFaultProtocolStartingUp: a server that is starting up makes Start fail and Run wait.
func TestFaultProtocolStartingUp(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		s.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "the database system is starting up"})
		hub, _ := newFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
		require.Equal(t, "57P03", sqlState(hub.Start(t.Context())))

		patient, d := newFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "t")
		ran := make(chan error, 1)
		go func() { ran <- patient.Run(t.Context()) }()
		time.Sleep(10 * time.Second)
		require.Empty(t, d.all())
		s.FailStartup(nil)
		d.expect(t, "connect", "subscribe t")
		s.FailStartup(&pgproto3.ErrorResponse{Code: "57P03", Message: "the database system is starting up"})
		s.Terminate()
		d.expect(t, "disconnect")
		time.Sleep(10 * time.Second)
		s.FailStartup(nil)
		d.expect(t, "reconnect")
		require.NoError(t, patient.Stop(t.Context()))
		require.NoError(t, <-ran)
	})
}

// TestFaultProtocolDeadHost: of several hosts one that does not answer at all does not keep the hub from the others.
func TestFaultProtocolDeadHost(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		cfg := s.Config()
		cfg.Fallbacks = []*pgconn.FallbackConfig{{Host: "second", Port: 5432}, {Host: "third", Port: 5432}}
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "third") {
				return s.Dial(ctx, network, address)
			}
			<-ctx.Done() // a machine that is switched off
			return nil, ctx.Err()
		}
		_, d := startFaultHub(t, pghub.Config{ListenConfig: cfg}, "t")
		d.expect(t, "connect", "subscribe t")
		s.Kill()
		d.expect(t, "disconnect", "reconnect")
	})
}

// TestFaultProtocolBusiestFirst: after a reconnection the busiest topics are listened to first, because the server looks
// for them in that order.
func TestFaultProtocolBusiestFirst(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		_, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, "idle", "busy", "some", "t")
		for n := range 10 {
			s.Notify("busy", "e")
			if n%3 == 0 {
				s.Notify("some", "e")
			}
		}
		d.await(t, "some=e")
		synctest.Wait()
		before := len(s.Queries())
		s.Kill()
		d.await(t, "reconnect")
		var listen string
		for _, sql := range s.Queries()[before:] {
			if strings.HasPrefix(sql, "LISTEN") {
				listen = sql
			}
		}
		require.True(t, strings.HasPrefix(listen, `LISTEN "busy";LISTEN "some";`), listen)
	})
}

// TestFaultProtocolRefusedLater: a topic that is refused after a reconnection does not keep the others from going on. It is
// tried again, and announced when it is in effect.
func TestFaultProtocolRefusedLater(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		tr := newTrouble()
		_, d := startFaultHub(t, pghub.Config{ListenConfig: s.Config(), OnError: tr.note}, "bad", "good")
		s.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if strings.Contains(sql, `LISTEN "bad"`) {
				return &pgproto3.ErrorResponse{Code: "53200", Message: "out of memory"}
			}
			return nil
		})
		d.expect(t, "connect", "subscribe bad", "subscribe good")
		s.Kill()
		d.expect(t, "disconnect", "reconnect")
		tr.await(t, 1, hasCode("53200"))
		s.Notify("good", "e1")
		d.expect(t, "good=e1")
		s.RefuseQuery(nil)
		d.expect(t, "subscribe bad")
		s.Notify("bad", "e2")
		d.expect(t, "bad=e2")
	})
}

// TestFaultProtocolManyTopics: thousands of topics are listened to in statements of a size that the server digests, and one
// bad name among them harms no other.
func TestFaultProtocolManyTopics(t *testing.T) {
	scripted(t, func(t *testing.T, s *fakepg.Server) {
		var topics []string
		for n := range 2500 {
			topics = append(topics, fmt.Sprint("topic ", n))
		}
		hub, _ := startFaultHub(t, pghub.Config{ListenConfig: s.Config()}, topics...)
		require.Len(t, s.Listening(), len(topics))
		for _, sql := range s.Queries() {
			require.LessOrEqual(t, strings.Count(sql, "LISTEN"), 1000)
		}
		s.RefuseQuery(func(sql string) *pgproto3.ErrorResponse {
			if strings.Contains(sql, `"bad"`) {
				return &pgproto3.ErrorResponse{Code: "22P05", Message: "no such character"}
			}
			return nil
		})
		good, bad := newDiary(), newDiary()
		release := s.Hold(func(sql string) bool { return strings.Contains(sql, "first") })
		done := make(chan error, 3)
		for _, sub := range []struct {
			d     *diary
			topic string
		}{{good, "first"}, {bad, "bad"}, {good, "second"}} {
			go func() {
				_, err := hub.Consumer(context.Background(), sub.d.handle, &pghub.ConsumerConfig{Topics: []string{sub.topic}})
				done <- err
			}()
			synctest.Wait()
		}
		release() // the two others go together in the next statement, which is refused
		var refused *pghub.ListenError
		failed := 0
		for range 3 {
			if err := <-done; err != nil {
				require.ErrorAs(t, err, &refused)
				require.Equal(t, "bad", refused.Topic)
				failed++
			}
		}
		require.Equal(t, 1, failed)
		require.Subset(t, s.Listening(), []string{"first", "second"})
	})
}
