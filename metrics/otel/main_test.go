package pghubotel

import (
	"testing"
	"time"

	"github.com/pghub/pghub/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const tick = 5 * time.Millisecond // between two looks
