// Package lb picks a target. It knows neither HTTP nor addresses: a target is
// an index, a weight is a number, and nothing here reads a clock or a socket.
package lb

// None is what a pick returns when there is no target to pick.
const None = -1
