"""The second transport: HTTP/1.1 by llhttp (httptools), on connections of our own.

`transport` is the whole way of a request, `request` and `route` say what is sent and where to,
`answer` and `line` take what comes, `pool` keeps connections, `dialler` and `names` make them.
"""
