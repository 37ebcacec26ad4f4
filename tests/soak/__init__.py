"""Traffic for minutes or hours over a provider that fails, and what must hold of the process that carries it.

``python -m tests.soak --seconds 120 --rate 50`` from the repository's root::

    __main__   options -> plan, report -> exit status
      traffic      the plan, carried out: a steady stream of questions from threads and from an event loop
        asking     the ways to ask: engine, LangChain, LlamaIndex; whole and streamed; blocking and not
        books      what was answered and acknowledged, against what the router says
        health     memory, threads, sockets, tasks
      provider     a process of its own: a scripted server that fails by lot
"""
