"""The second transport: HTTP/1.1 by llhttp (httptools), on connections of our own.

`transport` is the whole way of a request; `request` and `route` say what is sent and where to,
`answer`, `times` and `line` take what comes; `pool` keeps connections, `dialler`, `names` and
`tunnel` make them.
"""
