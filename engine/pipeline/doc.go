// Package pipeline is the contract between the gateway and its plugins: what a
// plugin author reads.
//
// A plugin is a Spec made by Define: a name, a Config with its defaults, and a
// build function that turns one configured instance into Hooks at load time.
// Hooks are functions of an Exchange, one request and the answer being made for
// it. A route's Hooks, in the order of plugin.All, form its Chain:
//
//	Request  down the list, until one answers (Done)
//	Response back up the list, all of them, also for answers the gateway made
//	Log      down the list, all of them, when the answer is final
//
// Everything that can be decided when the configuration is loaded is decided in
// build; a hook only walks what was decided. Hooks run on the request's
// goroutine, must not block except on the service itself, and allocate nothing.
package pipeline
