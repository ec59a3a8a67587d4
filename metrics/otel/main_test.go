package pghubotel

import (
	"testing"
	"time"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	patience = time.Minute // how long a test waits for what should come at once
	tick     = 5 * time.Millisecond
)
