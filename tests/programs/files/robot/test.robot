*** Test Cases ***
Passes
    Should Be Equal    1    1
Fails
    Should Be Equal    1    2
