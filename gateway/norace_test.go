//go:build !race

package gateway_test

const racing = false
