//go:build race

package gateway_test

// racing: the race detector is on, and everything takes ten times as long.
const racing = true
