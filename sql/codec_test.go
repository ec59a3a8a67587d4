package sql

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pghub/pghub"
)

// pghub.encode and Go's codec agree to the byte, and Go reads what SQL writes.
func TestEncodeIsTheCodecOfGo(t *testing.T) {
	b := setUp(t)
	for _, v := range vectors {
		var value any
		if text, ok := v.value.(string); ok {
			value = json.RawMessage(text)
		}
		fromGo, err := pghub.KeyValueCodec{}.Append(nil, v.key, value)
		require.NoError(t, err)
		require.Equal(t, v.payload, string(fromGo))
		fromSQL := one[string](b, "SELECT pghub.encode($1::bigint[], $2::text::jsonb)", v.key, v.value)
		require.Equal(t, string(fromGo), fromSQL)

		ev := pghub.Event{Payload: []byte(fromSQL)}
		require.NoError(t, pghub.KeyValueCodec{Strict: true}.Decode(&ev))
		require.ElementsMatch(t, v.key, ev.Key)
		if _, rest, ok := strings.Cut(fromSQL, ":"); ok {
			require.JSONEq(t, rest, string(ev.Value))
		} else {
			require.Nil(t, ev.Value)
		}
	}
}
