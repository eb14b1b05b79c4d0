//go:build race

package engine_test

// underRace says that the race detector makes everything slower and larger.
const underRace = true
