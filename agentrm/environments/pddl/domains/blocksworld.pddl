; One arm stacks blocks on each other and on a table that has room for all of them.
(define (domain blocksworld-4ops)
  (:requirements :strips)
  (:predicates
    (on ?upper ?lower)
    (on-table ?block)
    (clear ?block)
    (holding ?block)
    (arm-empty))

  (:action pickup
    :parameters (?block)
    :precondition (and (on-table ?block) (clear ?block) (arm-empty))
    :effect (and (holding ?block)
                 (not (on-table ?block)) (not (clear ?block)) (not (arm-empty))))

  (:action putdown
    :parameters (?block)
    :precondition (holding ?block)
    :effect (and (on-table ?block) (clear ?block) (arm-empty)
                 (not (holding ?block))))

  (:action stack
    :parameters (?upper ?lower)
    :precondition (and (holding ?upper) (clear ?lower))
    :effect (and (on ?upper ?lower) (clear ?upper) (arm-empty)
                 (not (holding ?upper)) (not (clear ?lower))))

  (:action unstack
    :parameters (?upper ?lower)
    :precondition (and (on ?upper ?lower) (clear ?upper) (arm-empty))
    :effect (and (holding ?upper) (clear ?lower)
                 (not (on ?upper ?lower)) (not (clear ?upper)) (not (arm-empty)))))
