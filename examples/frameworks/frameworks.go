// Package frameworks has programs that show a hub within frameworks that the library does not require. They are a module of their own
// for that reason.
package frameworks
