// Package reliability holds no code of the library: only tests that know the hub as its users do, from outside, and hurt it.
//
//	faults_*   one failure at a time, on a real server or a scripted one
//	time_*     what takes hours, in bubbles of testing/synctest
//	soak_*     everything at once, on real servers, for as long as a flag says
//	oracle_*   what a consumer may and may not have lived through, which the soak and a day of outages are judged by
//	operator_* what those see who run a hub: its log and its errors
//
// docs/reliability.md says what they found and how to repeat it.
package reliability
