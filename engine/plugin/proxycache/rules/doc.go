// Package rules holds the rules of HTTP caching as functions of bytes and numbers:
// may this answer be stored, for how long is it fresh, may it be given to this
// request, which of its fields change when it is validated?
//
//	directives   Cache-Control of answers and of requests      RFC 9111 5.2, RFC 5861, RFC 8246
//	targeted     CDN-Cache-Control, Surrogate-Control          RFC 9213, Edge Architecture 1.0
//	date         the three forms of a date                     RFC 9110 5.6.7
//	storable     may it be stored, and if not, why?            RFC 9111 3
//	freshness    how long it is fresh, and how old it is       RFC 9111 4.2
//	verdict      may it be given to this request?              RFC 9111 4, 5.2.1, RFC 5861
//	vary         the request fields an answer was chosen by    RFC 9111 4.1
//	coding       Accept-Encoding                               RFC 9110 12.5.3
//	condition    entity tags, If-None-Match, If-Range          RFC 9110 8.8, 13
//	ranges       one range of bytes                            RFC 9110 14
//	field        what is stored, updated, invalidated          RFC 9111 3.1, 3.2, 4.4
//	status       Cache-Status                                  RFC 9211
//
// The cache is a shared one. Everything here is pure: there is no clock, no state and
// no I/O, so all of it may be used from many goroutines at once. Nothing allocates;
// what yields bytes appends to dst.
//
// # Units and absence
//
// Directives and fields count in seconds, as they do on the wire; points in time, ages
// and lifetimes are milliseconds, points since 1970. A number that was not sent is
// Absent, -1, which no date can be, since dates are whole seconds.
//
// # Doubt
//
// Where a message is malformed or contradicts itself, the reading wins that caches less:
// an age that is no number is 0, of two directives the stricter counts, and a
// permission with an argument it does not have is none.
package rules

// Absent stands for a number that a message does not have.
const Absent = -1

// SecondsMax is what every greater number of seconds counts as (RFC 9111 1.2.2).
const SecondsMax = 1 << 31
