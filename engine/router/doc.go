// Package router answers the question "which route?". A Table is compiled once
// from Rules and never changes; Match takes a request and yields the value of the
// rule that wins. The package knows nothing of the gateway, and the rules it
// follows are Kong's.
//
// # When a rule matches
//
// Every attribute that a rule sets must match; the values inside one attribute are
// alternatives. A rule without attributes matches every request and ranks last.
//
//	methods  equal, letter case counts
//	hosts    equal to the Host without its port; with "name:port" the port too.
//	         "*.name" and "name.*" stand for one or more bytes, dots included.
//	         A Host without port has, except in Traditional, the listener's port
//	paths    "/x" is a byte prefix of the normalized path ("/foo" takes "/foobar"),
//	         "~/x" a regexp (RE2 syntax) anchored at its start
//	headers  each named header is there with one of the values; "~*re" is searched
//	         in the lower-cased value. In Traditional it counts only as the sole
//	         value; elsewhere the pattern is lower-cased too, so \D becomes \d
//	snis     equal to the server name, or wildcards as for hosts; requests without
//	         TLS pass. Kong's traditional flavor takes such wildcards literally and
//	         so never matches them; here they work in every flavor
//
// Host names, server names and header values are compared without regard to the
// case of ASCII letters.
//
// # Which rule wins
//
// A rule with several paths counts as one rule for each. They are put in order
// when the table is compiled, and the first that matches wins. The order is
// decided by the first line in which two rules differ:
//
//	Traditional                           TraditionalCompatible
//	more kinds of attributes              more kinds of attributes
//	larger sum of HOST 64, HEADER 32,     hosts without wildcard only
//	  PATH 16, METHOD 8, SNI 4
//	larger sum of wildcard host with      more header names, up to 255
//	  port 4, hosts without wildcard
//	  only 2, regexp path 1
//	more header names                     regexp path
//	regexp: higher regex_priority         regexp: higher regex_priority
//	longer prefix (a regexp has 0)        longer prefix (a regexp has 0)
//	older created_at                      larger ID
//	earlier in the list                   earlier in the list
//
// Expressions orders rules with an Expression by higher Priority, then larger ID,
// then position. Rules without one follow, as in TraditionalCompatible. Kong packs
// the compatible order into 64 bits, where a negative or huge regex_priority would
// spill; here numbers are compared as they are.
//
// # How it is found
//
// The position in the order is a number, the rank. A request is answered by the
// lowest rank that matches, so parts of the index can be searched in any sequence
// and whatever cannot beat the best rank so far is skipped:
//
//	host.go   hash look-ups of the host and of its wildcard parts, at most one for
//	          each length of wildcard configured; hosts with the same rules share
//	radix.go  a radix tree of prefixes for each set of hosts; a regexp hangs at the
//	          literal it starts with. The longest prefix comes first, shorter ones
//	          only while one of them has a lower rank
//	list.go   the entries of one prefix, tried one by one if few, else found by the
//	          hash of a header value, a method or an SNI, whichever tells most of
//	          them apart, and by another below that if many are left
//
// Expressions get the same treatment as far as they can: hosts, path prefixes and
// methods that each of their alternatives demands place them in the index, and the
// rest is evaluated there.
//
// # What stays linear
//
// These cost time in proportion to their number, and only where all of them share
// one host and one path prefix. BenchmarkWorstCase measures each; on a 2-core EPYC
// virtual machine one more of them costs about
//
//	125 ns  regexp path that no literal tells apart (15 ns where one does)
//	 60 ns  header condition with a regexp
//	 45 ns  nested prefix whose other conditions fail
//	 25 ns  different header name
//	 10 ns  expression that demands no host, path or method; these are evaluated
//	        for every request that nothing of lower rank has answered
package router
