Feature: things
  Scenario: count
    Given 2 things
    Then there are 2
